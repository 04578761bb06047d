"""What came of the rounds of `worldmodels run --rounds N`: a line for each, and a plot."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from worldmodels.core.report import paths, say, table
from worldmodels.show.pages import Section, sections, text

PLOT = "rounds.png"
DREAMT = "in dreams"
REALLY = "really"
WORLDS = {"controller": DREAMT, "evaluate": REALLY}
"""What the tables of these stages tell of C: how it does where it learnt, and where it had not learnt."""


class Score(NamedTuple):
    """How a controller did in one world."""

    round: int
    name: str  # of the controller
    world: str  # DREAMT or REALLY
    mean: float
    ci: float  # half the width of the 95 % interval of the mean
    told: str  # mean and spread, with how many episodes

    @property
    def series(self) -> str:
        """What its line in the plot is called."""
        return " ".join(filter(None, [self.name, self.world]))


def tell(runs: list[Path]) -> None:
    """Prints what came of each round, and draws it; nothing, if none has a score yet.

    Args:
        runs: the folder of each round, in order.
    """
    scores = [score for number, run in enumerate(runs, 1) for score in _scores(number, run)]
    if not scores:
        return
    from worldmodels.show import plots  # late: matplotlib, which the process that starts stages has no need of

    worlds = [world for world in WORLDS.values() if any(score.world == world for score in scores)]
    columns = [f"{world}, mean ± std (n)" for world in worlds]
    frames = dict(enumerate(map(_frames, runs), 1))
    say(table(f"Rounds of {runs[0]}", ("round", "pictures learnt from", *columns), _rows(scores, worlds, frames)))
    series: dict[str, list[tuple[int, float, float]]] = {}
    for score in scores:
        series.setdefault(score.series, []).append((score.round, score.mean, score.ci))
    plots.by_round(runs[0] / PLOT, series, f"{runs[0]}, round by round")
    say(paths(plot=runs[0] / PLOT))
    say(f"side by side  {shlex.join(['worldmodels', 'compare', *map(str, runs)])}")


def _rows(scores: list[Score], worlds: list[str], frames: dict[int, str]) -> Iterator[list[str]]:
    """A line for each controller of each round."""
    told = {(score.round, score.name, score.world): score.told for score in scores}
    for number, name in dict.fromkeys((score.round, score.name) for score in scores):
        cells = [told.get((number, name, world), "") for world in worlds]
        yield [f"{number} {name}".strip(), frames[number], *cells]


def _frames(run: Path) -> str:
    """How many pictures a round had to learn from."""
    rows = [row for section in sections(run) if section.stage == "collect" for row in section.kept["tables"][0]["rows"]]
    return next((text(value) for label, value, *_ in rows if label == "frames"), "")


def _scores(number: int, run: Path) -> Iterator[Score]:
    """Those of a round; its controllers are named if there are several."""
    found = [section for section in sections(run) if section.stage in WORLDS and section.name]
    several = len({section.name for section in found}) > 1
    for section in found:
        for cell in _cells(section):
            name = section.name if several else ""
            told = f"{cell['mean']:.1f} ± {cell['std']:.1f} ({cell['n']})"
            yield Score(number, name, WORLDS[section.stage], cell["mean"], cell["ci"], told)


def _cells(section: Section) -> Iterator[dict[str, Any]]:
    """The scores of C among what a stage told: in dreams what it learnt in, in reality all."""
    for kept in section.kept["tables"]:
        for label, *cells in kept["rows"]:
            here = str(label).endswith(": there") or str(label).startswith("our controller in the real")
            if here and cells and isinstance(cells[0], dict) and "mean" in cells[0]:
                yield cells[0]
