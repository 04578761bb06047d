"""How do runs differ?  worldmodels compare RUN RUN ...

Settings that differ, and all numbers that their stages have kept, side by side: on the terminal, and on a page with
plots and films.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from worldmodels.core import files
from worldmodels.core.errors import UserError
from worldmodels.core.report import names_of, paths, say, table
from worldmodels.settings.commands import CompareConfig
from worldmodels.settings.shared import COMPUTES, LIES
from worldmodels.show import html
from worldmodels.show.pages import NAMES, Section, interval, sections, text

NONE = "–"
TOLD_BY_CELLS = ("95 % of the mean", "n")
"""Columns that repeat what the cell of a mean holds."""
TEMPERATURE = r",? (?:at )?τ [\d.e+-]+"


class Line(NamedTuple):
    """A line of the comparison."""

    group: str  # which lines it stands among
    name: str
    cells: list[str]  # of each run


def compare(config: CompareConfig) -> None:
    """Prints the tables and writes the page."""
    found = {run: _by_key(run) for run in config.run}
    names = names_of(config.run)
    differing = list(_settings(found))
    numbers = list(_numbers(found))
    page = config.page if config.page != Path() else config.run[0].parent / "compare.html"
    for title, lines in (("Settings that differ", differing), ("Losses and scores", numbers)):
        say(table(title, ("", *names), _rows(lines, len(names))))
    files.write_text(page, html.page("Runs compared", _body(names, differing, numbers, found)))
    say(paths(page=page))


def _by_key(run: Path) -> dict[str, Section]:
    """What a run's commands have kept, by stage; where it has several controllers, by their names too."""
    found = sections(run)
    if not found:
        raise UserError(f"--run {run} holds nothing that a stage of this version has kept; run a stage of it again")
    several = len({one.name for one in found if one.name}) > 1
    return {f"{one.stage} {one.name}" if several and one.name else one.stage: one for one in found}


def _keys(found: dict[Path, dict[str, Section]]) -> list[str]:
    """The stages that any run has, in order."""
    order = list(NAMES)
    return sorted({key for run in found.values() for key in run}, key=lambda key: (order.index(key.split()[0]), key))


def _settings(found: dict[Path, dict[str, Section]]) -> Iterator[Line]:
    """The settings in which runs differ, stage by stage."""
    for key in _keys(found):
        each = [run[key].kept["settings"] if key in run else {} for run in found.values()]
        for name in {name: None for settings in each for name in settings if name not in COMPUTES | LIES}:
            cells = [html.said(settings[name]) if name in settings else NONE for settings in each]
            if len({cell for cell in cells if cell != NONE}) > 1:
                yield Line(_title(key), name, [cell or "none" for cell in cells])


def _numbers(found: dict[Path, dict[str, Section]]) -> Iterator[Line]:
    """All numbers in the tables of the stages that any run has."""
    for key in _keys(found):
        each = [_values(run[key]) if key in run else {} for run in found.values()]
        for name in {name: None for values in each for name in values}:
            yield Line(_title(key), name, [values.get(name, NONE) for values in each])


def _values(one: Section) -> dict[str, str]:
    """A stage's numbers: of means their 95 % interval, and of how many; else as they were printed."""
    values = {}
    for kept in one.kept["tables"]:
        columns = [(at, name) for at, name in enumerate(kept["header"]) if at and name not in TOLD_BY_CELLS]
        for row in (row for row in kept["rows"] if len(row) == len(kept["header"])):
            for at, name in columns:
                values[f"{text(row[0])} · {name}" if len(columns) > 1 else text(row[0])] = interval(row[at])
    bare = [re.sub(TEMPERATURE, "", name) for name in values]  # so that runs of several temperatures meet in a line
    return dict(zip(bare, values.values(), strict=True)) if len(set(bare)) == len(bare) else values


def _title(key: str) -> str:
    stage, _, name = key.partition(" ")
    return " · ".join(filter(None, [NAMES.get(stage, stage), name]))


def _rows(lines: list[Line], runs: int) -> list[list[str]]:
    """Lines as rows, each group beneath its name."""
    rows = []
    for group, those in groupby(lines, lambda line: line.group):
        rows.append([f"{group}:", *[""] * runs])
        rows += [[f"  {line.name}", *line.cells] for line in those]
    return rows


def _body(
    names: list[str],
    differing: list[Line],
    numbers: list[Line],
    found: dict[Path, dict[str, Section]],
) -> Iterator[str]:
    yield html.tag("h1", "Runs compared")
    yield html.tag("p", " · ".join(map(str, found)), class_="faint")
    for name, run in zip(names, found.values(), strict=True):
        for one in run.values():
            yield from (html.tag("p", f"{name}: {warning}", class_="warn") for warning in one.kept["warnings"])
    for title, lines in (("Settings that differ", differing), ("Losses and scores", numbers)):
        yield html.tag("h2", title)
        yield html.table(("", *names), _grouped(lines))
        if lines is numbers:
            yield html.tag("p", "Where n is told: mean ± half of its 95 % confidence interval.", class_="faint")
    for key in _keys(found):
        pictures = [
            one._replace(caption=f"{name}: {one.caption}")
            for name, run in zip(names, found.values(), strict=True)
            if key in run
            for one in run[key].shown()
        ]
        if shown := html.figures(sorted(pictures, key=lambda one: one.path.name)):
            yield html.tag("h2", _title(key))
            yield shown


def _grouped(lines: list[Line]) -> Iterator[list[str]]:
    for group, those in groupby(lines, lambda line: line.group):
        yield [group]
        yield from ([line.name, *line.cells] for line in those)
