"""What a command says when it is done, printed and kept: as JSON beside the results, for report pages and comparisons.

record = Record(run.folder / "memory.json", "memory", config)
record.table("Deaths by step", ("step", "really", "dreamt"), rows)
record.show(path, "How often what was given a probability happened")
record.save()
"""

import os
import shlex
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from worldmodels.core import files, schema
from worldmodels.core.checkpoint import versions
from worldmodels.core.report import Summary, say, table
from worldmodels.settings.as_typed import as_typed
from worldmodels.settings.shared import plain

COMMANDS = {"vision": "train-vision", "memory": "train-memory", "controller": "train-controller", "rounds": "run"}
LARGEST = 16 << 20  # bytes of a record
CELL = schema.any_of(
    schema.text(2000),
    schema.fields(
        {name: schema.maybe(schema.number(finite=False)) for name in ("value", "mean", "std", "ci", "n")},
        text=schema.text(2000),
    ),
)
HOLDS = schema.fields(
    None,
    schema.anything,
    stage=schema.one_of("collect", "vision", "memory", "controller", "evaluate", "probe", "rounds"),
    command=schema.text(10_000),
    settings=schema.named(schema.anything),
    made=schema.named(schema.text()),
    tables=schema.each(
        schema.fields(
            title=schema.text(2000),
            header=schema.each(schema.text(2000)),
            rows=schema.each(schema.each(CELL)),
        )
    ),
    notes=schema.each(schema.text(100_000)),
    warnings=schema.each(schema.text(100_000)),
    shown=schema.each(schema.fields(file=schema.text(), caption=schema.text(2000), plot=schema.flag)),
)
"""What a record's file holds. A cell of a table is a text, with its numbers where it has some."""


class Number(NamedTuple):
    """A number in a table: shown in a form, kept in full."""

    value: float
    form: str = ".4g"

    def __str__(self) -> str:
        return format(self.value, self.form)


class Record:
    """What a command says.

    Args:
        path: of the file that keeps it.
        stage: what the command is called on pages: collect, vision, memory, controller, evaluate, probe, rounds.
        config: its settings.
        words: what was typed, if that does not follow from the settings.
    """

    def __init__(self, path: Path, stage: str, config: Any, words: Sequence[str] = ()) -> None:
        self.path = path
        self._tables: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._shown: list[dict[str, Any]] = []
        self._about: dict[str, Any] = {
            "stage": stage,
            "command": shlex.join(["worldmodels", COMMANDS.get(stage, stage), *(words or as_typed(config))]),
            "settings": plain(config),
            "made": _made(),
        }

    def table(self, title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Prints a table and keeps it. Cells may be anything; of a Summary and a Number the numbers are kept too."""
        rows = [list(row) for row in rows]
        say(table(title, header, rows))
        kept = [list(map(_cell, row)) for row in rows]
        self._tables.append({"title": title, "header": list(header), "rows": kept})

    def note(self, *lines: str) -> None:
        """Prints lines and keeps them."""
        say(*lines)
        self._notes += [line.removeprefix("note: ") for line in lines]

    def warn(self, *lines: str) -> None:
        """The same for what a reader must know before believing a result; pages show it first. "" is no warning."""
        lines = tuple(filter(None, lines))
        say(*(f"warning: {line}" for line in lines))
        self._warnings += lines

    def show(self, path: Path, caption: str, plot: bool = False) -> None:
        """Keeps that a picture (png) or film (mp4) belongs here, if there is one: in this folder, or one in it."""
        file = os.path.relpath(path, self.path.parent)
        self._shown.append({"file": file, "caption": caption, "plot": plot})

    def plot(self, path: Path, caption: str) -> None:
        """The same for what is drawn black on white."""
        self.show(path, caption, plot=True)

    def keep(self, **numbers: Any) -> None:
        """Keeps what no table shows."""
        self._about |= numbers

    def save(self) -> None:
        """Writes all that was kept."""
        tree = self._about | {
            "tables": self._tables,
            "notes": self._notes,
            "warnings": self._warnings,
            "shown": self._shown,
        }
        files.write_text(self.path, files.to_json(tree, 1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """What a record's file holds (HOLDS). Raises UserError if it is no such file, or damaged."""
    tree: dict[str, Any] = schema.read(path, HOLDS, LARGEST)
    return tree


def _cell(value: object) -> Any:
    if isinstance(value, Summary):
        return {"text": str(value), **value._asdict()}
    if isinstance(value, Number):
        return {"text": str(value), "value": float(value.value)}
    if isinstance(value, int | float):
        return {"text": str(value), "value": value}
    return str(value)


def _made() -> dict[str, str]:
    """When, and by which versions."""
    return {"at": time.strftime("%Y-%m-%d %H:%M"), **versions()}
