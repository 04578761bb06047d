"""What a command says when it is done: a table of what came out, and where it lies."""

import codecs
import sys
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from worldmodels.core.errors import printable

if TYPE_CHECKING:
    import numpy as np

SPELT = {"─": "-", "±": "+-", "τ": "tau", "²": "2", "→": "->", "×": "x", "…": "...", "·": ".", "√": "sqrt "}
"""What is written where a terminal or a file cannot hold a character."""


def speak_plainly() -> None:
    """From now on a character that standard output cannot hold is spelt out, instead of ending the command."""
    codecs.register_error("spelt", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="spelt")


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(SPELT.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


class Summary(NamedTuple):
    """A sample of returns in numbers."""

    mean: float
    std: float
    ci: float  # half width of the 95 % confidence interval of the mean, normal approximation
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.std:.1f}"


def summarise(returns: "np.ndarray") -> Summary:
    """Mean, standard deviation (n-1) and confidence interval of `returns`, any shape."""
    import numpy as np  # late: mistakes in flags are answered before

    values = np.asarray(returns, np.float64).ravel()
    std = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return Summary(float(values.mean()), std, 1.96 * std / np.sqrt(len(values)), len(values))


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as aligned text; the first column to the left, the others to the right."""
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(_aligned(row, widths)) for row in cells]
    rule = "─" * max(map(len, [*lines, title]))
    return "\n".join(["", title, rule, lines[0], rule, *lines[1:], rule])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
    cells[0] = row[0].ljust(widths[0])
    return cells


def played_anew(failures: Sequence[str]) -> list[str]:
    """What to say of episodes that took the place of others, in which the environment failed; nothing if none did."""
    if not failures:
        return []
    return [f"note: episodes played anew after an error of the environment: {len(failures)} (last: {failures[-1]})"]


def say(*lines: str) -> None:
    """Prints beside progress bars without tearing them; control characters that a file may hold are shown, not sent."""
    from tqdm import tqdm  # late: mistakes in flags are answered before

    for line in lines:
        tqdm.write(printable(line))


def lasting(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours and rest else f"{hours} h" if hours else f"{minutes} min"


def names_of(folders: Sequence[Path]) -> list[str]:
    """What folders are called in a table: their names, or their whole paths where two have the same."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else list(map(str, folders))


def paths(**named: Path) -> str:
    """Where things lie, one per line."""
    width = max(map(len, named))
    return "\n".join(f"{name.ljust(width)}  {path}" for name, path in named.items())
