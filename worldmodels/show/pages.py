"""RUN/report.html: all that is known of a run on one page, made of what its stages have kept (record.py)."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from worldmodels.core import files, schema
from worldmodels.core.errors import UserError
from worldmodels.core.report import say
from worldmodels.settings.run_all import NOTES, ROUNDS
from worldmodels.show import html
from worldmodels.show.record import LARGEST, Record, read

REPORT = "report.html"
COLLECTED = "collect.json"
"""Kept beside the rollouts, and in each run that learns from them."""
NARROW = 80  # characters after which a command goes on in a new line
NAMES = {
    "collect": "Rollouts",
    "vision": "V, which sees",
    "memory": "M, which expects",
    "controller": "C, which acts",
    "evaluate": "Scores",
    "probe": "What representations know",
    "rounds": "Rounds",
}


class Section(NamedTuple):
    """What one command has kept."""

    folder: Path
    name: str  # of the controller, if a run may have several
    kept: dict[str, Any]

    @property
    def stage(self) -> str:
        """What the command is called."""
        return str(self.kept["stage"])

    @property
    def title(self) -> str:
        """For people."""
        return " · ".join(filter(None, [NAMES.get(self.stage, self.stage), self.name]))

    @property
    def anchor(self) -> str:
        """Its name within the page."""
        return f"{self.stage}-{self.name}" if self.name else self.stage

    def shown(self) -> list[html.Shown]:
        """Its pictures and films: of this folder and those in it, whatever the file says."""
        shown = [html.Shown(self.folder / one["file"], one["caption"], one["plot"]) for one in self.kept["shown"]]
        home = self.folder.resolve()
        return [one for one in shown if one.path.suffix in html.TYPES and one.path.resolve().is_relative_to(home)]


def close(record: Record, run: Path, data: Path | None = None) -> None:
    """Keeps what a command has said, and writes the page of its run anew. A page that cannot be written costs nothing
    else.

    Args:
        record: what was said.
        run: the run's folder.
        data: that of its rollouts, if the command knows it.
    """
    record.save()
    try:
        if data is not None and (data / COLLECTED).is_file() and data != run:
            run.mkdir(parents=True, exist_ok=True)
            files.write_bytes(run / COLLECTED, files.read_bytes(data / COLLECTED))
        files.write_text(run / REPORT, run_page(run))
    except UserError as error:
        say(f"note: there is no new report: {error}")
        return
    say(f"report  {run / REPORT}")


def sections(run: Path) -> list[Section]:
    """What the commands of a run have kept, in order; what is damaged is told of and left out."""
    paths = [run / COLLECTED, run / "vision/vision.json", run / "memory/memory.json"]
    paths += sorted(run.glob("controller/*.json"))
    for folder in sorted(path for path in run.glob("controller/*") if path.is_dir()):
        paths += [folder / "controller.json", folder / "evaluate.json"]
    paths += sorted(run.glob("planning/*/evaluate.json"))
    found = []
    for path in [*paths, run / "probe.json", run / ROUNDS]:
        if not path.is_file():
            continue
        try:
            name = path.parent.name if path.parent.parent in (run / "controller", run / "planning") else ""
            found.append(Section(path.parent, name, read(path)))
        except UserError as error:
            say(f"note: {error}; the report leaves it out")
    return found


def run_page(run: Path) -> str:
    """The page of a run, of what is there."""
    found = sections(run)
    return html.page(f"{_name(run)}: report", _body(run, found))


def _name(run: Path) -> str:
    return run.resolve().name


def _body(run: Path, found: list[Section]) -> Iterator[str]:
    yield html.tag("h1", _name(run))
    yield html.tag("p", _about(found), class_="faint")
    links = [html.tag("a", one.title, href=f"#{one.anchor}") for one in found]
    yield f"<nav>{''.join(links)}{html.tag('a', 'How to do it again', href='#again')}</nav>"
    for warning, names in _warnings(found).items():
        yield html.tag("p", warning + (f" ({', '.join(names)})" if names else ""), class_="warn")
    yield from _cards(found)
    shown = set[Path]()  # a film that two commands make is shown once
    for one in found:
        yield from _section(one, shown)
    yield from _again(run, found)


def _warnings(found: list[Section]) -> dict[str, list[str]]:
    """Each once, and whose it is; one of M concerns all."""
    warned: dict[str, list[str]] = {}
    for one in found:
        for warning in one.kept["warnings"]:
            warned.setdefault(warning, [])
            if one.name and not any(warning in other.kept["warnings"] for other in found if not other.name):
                warned[warning].append(one.name)
    return warned


def _about(found: list[Section]) -> str:
    """Where the run takes place, and how far it is."""
    settings: dict[str, Any] = next((one.kept["settings"] for one in found if "env" in one.kept["settings"]), {})
    facts = [html.said(settings[name]) for name in ("env", "preset") if name in settings]
    distractor = settings.get("distractor", "none")
    if distractor == "dcs":
        facts += [f"distracted by dcs, {html.said(settings.get('dcs_intensity', ''))}"]
    elif distractor != "none":
        facts += [f"in front of {distractor}"]
    last = max((one.kept["made"].get("at", "") for one in found if one.stage != "rounds"), default="")
    return " · ".join([*facts, *([f"last changed {last}"] if last else [])])


def _cards(found: list[Section]) -> Iterator[str]:
    """The scores of controllers, to be seen at once."""
    scores = [(one, one.kept["tables"][0]["rows"]) for one in found if one.stage == "evaluate" and one.kept["tables"]]
    rows = [(one.name, row) for one, rows in scores for row in rows if row and text(row[0]).startswith("our ")]
    cards = [
        f'<div class="card">{html.tag("b", interval(row[1]))}{html.tag("span", f"{text(row[0])} · {name}")}</div>'
        for name, row in rows
        if len(row) > 1
    ]
    if cards:
        yield f'<div class="cards">{"".join(cards)}</div>'


def _section(one: Section, shown: set[Path]) -> Iterator[str]:
    """What a command has said: tables, notes, pictures and films that were not shown yet, settings."""
    yield html.tag("h2", one.title, id=one.anchor)
    for kept in one.kept["tables"]:
        yield html.tag("h3", kept["title"])
        yield html.table(kept["header"], [list(map(text, row)) for row in kept["rows"]], ours=_ours(kept))
    yield from (html.tag("p", note, class_="faint") for note in one.kept["notes"])
    yield html.figures(picture for picture in one.shown() if picture.path not in shown)
    shown |= {picture.path for picture in one.shown()}
    yield html.settings(one.kept["settings"])


def _ours(table: dict[str, Any]) -> str:
    """What the names of rows begin with that are the table's point."""
    names = [text(row[0]) for row in table["rows"] if row]
    return "our " if any(name.startswith("our ") for name in names) else "evolved in"


def text(cell: Any) -> str:
    """A cell as it was printed."""
    return str(cell["text"]) if isinstance(cell, dict) else str(cell)


def interval(cell: Any) -> str:
    """A mean with half of its 95 % interval, and of how many; of what is no mean, what was printed."""
    if not isinstance(cell, dict) or cell.get("ci") is None or cell.get("mean") is None or cell.get("n") is None:
        return text(cell)
    return f"{cell['mean']:.1f} ± {cell['ci']:.1f} (n {cell['n']:.0f})"


def _again(run: Path, found: list[Section]) -> Iterator[str]:
    """The commands, and by which versions they were run."""
    yield html.tag("h2", "How to do it again", id="again")
    if together := _command(run / NOTES):
        yield html.tag("p", "All stages:")
        yield html.tag("pre", _wrapped(together))
        yield html.tag("p", "Or one after the other:")
    stages = [one for one in found if one.stage != "rounds"]
    yield html.tag("pre", "\n".join(_wrapped(one.kept["command"]) for one in stages))
    made = [(name, which) for one in stages[-1:] for name, which in one.kept["made"].items() if name != "at"]
    versions = ", ".join(f"{name} {which}" for name, which in made)
    yield html.tag("p", f"With {versions}. Results are equal to the bit on the same kind of processor.", class_="faint")


def _wrapped(command: str) -> str:
    """A command on lines that can be read, and pasted as they are."""
    try:
        words = shlex.split(command)
    except ValueError:  # no command of ours
        return command
    lines = [""]
    for word in words:
        said = shlex.quote(word)
        if word.startswith("--") and len(lines[-1]) > NARROW:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {said}" if lines[-1] else said
    return " \\\n".join(lines)


def _command(notes: Path) -> str:
    """The command of all stages, if that was used."""
    if not notes.is_file():
        return ""
    try:
        words = schema.parse(files.read_bytes(notes, LARGEST))["command"]
        return shlex.join(["worldmodels", "run", *(word for word in words if word != "--fresh")])
    except (schema.Wrong, UserError, KeyError, TypeError):  # `run` itself tells of it
        return ""
