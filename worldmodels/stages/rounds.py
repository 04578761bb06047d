"""What came of the rounds of `worldmodels run --rounds N`: a line for each, and a plot."""

import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from worldmodels.core.report import paths, say
from worldmodels.settings.run_all import ROUNDS, ROUNDS_PLOT, Plan
from worldmodels.show import pages, plots
from worldmodels.show.pages import Section, sections, text
from worldmodels.show.record import Record
from worldmodels.stages.scores import OUR_PLANNER, OURS_REALLY, REAL, THERE

DREAMT = "in dreams"
REALLY = "really"
ACTING = ("controller", "evaluate")
"""The stages that score who acts."""


class Score(NamedTuple):
    """How one acted in one world."""

    round: int
    name: str  # of the controller, or of the search for plans; "" if nobody else acts
    world: str  # DREAMT or REALLY
    mean: float
    ci: float  # half the width of the 95 % interval of the mean; 0 if one episode tells none
    told: str  # mean and spread, with how many episodes

    @property
    def series(self) -> str:
        """What its line in the plot is called."""
        return " ".join(filter(None, [self.name, self.world]))


def tell(plan: Plan) -> None:
    """Prints what came of each round, draws it, and keeps it for the first one's page; nothing, if none has a score
    yet."""
    runs = list(dict.fromkeys(part.run for part in plan.parts))
    kept = {number: sections(run) for number, run in enumerate(runs, 1)}
    acting = {number: [one for one in found if one.stage in ACTING and one.name] for number, found in kept.items()}
    several = max((len({one.name for one in found}) for found in acting.values()), default=0) > 1
    scores = [score for number, found in acting.items() for score in _scores(number, found, several)]
    if not scores:
        return
    worlds = [world for world in (DREAMT, REALLY) if any(score.world == world for score in scores)]
    columns = [f"{world}, mean ± std (n)" for world in worlds]
    frames = {number: _frames(found) for number, found in kept.items()}
    record = Record(plan.run / ROUNDS, "rounds", plan.shared, plan.words)
    record.table(f"Rounds of {plan.run}", ("round", "pictures so far", *columns), _rows(scores, worlds, frames))
    series: dict[str, list[tuple[int, float, float]]] = {}
    for score in scores:
        series.setdefault(score.series, []).append((score.round, score.mean, score.ci))
    plots.by_round(plan.run / ROUNDS_PLOT, series, f"{plan.run}, round by round")
    record.plot(plan.run / ROUNDS_PLOT, "Scores round by round, with the 95 % intervals of the means")
    record.note(f"side by side: {shlex.join(['worldmodels', 'compare', *map(str, runs)])}")
    say(paths(plot=plan.run / ROUNDS_PLOT))
    pages.close(record, plan.run)


def _rows(scores: list[Score], worlds: list[str], frames: dict[int, str]) -> Iterator[list[str]]:
    """A line for each who acted in each round."""
    told = {(score.round, score.name, score.world): score.told for score in scores}
    for number, name in dict.fromkeys((score.round, score.name) for score in scores):
        cells = [told.get((number, name, world), "") for world in worlds]
        yield [f"{number} {name}".strip(), frames[number], *cells]


def _frames(kept: list[Section]) -> str:
    """How many pictures there were by then."""
    collected = [one for one in kept if one.stage == "collect"]
    rows = [row for one in collected for kept in one.kept["tables"][:1] for row in kept["rows"]]
    return next((text(row[1]) for row in rows if len(row) > 1 and row[0] == "frames"), "")


def _scores(number: int, found: list[Section], several: bool) -> Iterator[Score]:
    """Those of a round; those who act are named if there are several. Where evaluation scored one really, that
    counts, and not the final score of stage 4, which is of fewer episodes."""
    evaluated = {one.name for one in found if one.stage == "evaluate"}
    for one in found:
        for world, cell in _cells(one):
            if world == DREAMT or one.stage == "evaluate" or one.name not in evaluated:
                name = one.name if several else ""
                yield Score(number, name, world, cell["mean"], cell.get("ci") or 0.0, _told(cell))


def _cells(section: Section) -> Iterator[tuple[str, dict[str, Any]]]:
    """The scores among what a stage told, and in which world: in dreams where C learnt, really of who acted."""
    learns = section.stage == "controller"
    acts = OURS_REALLY if section.folder.parent.name == "controller" else OUR_PLANNER
    for row in (row for kept in section.kept["tables"] for row in kept["rows"] if len(row) > 1):
        if not isinstance(row[1], dict) or row[1].get("mean") is None:
            continue
        name = text(row[0])
        if learns and name.endswith(THERE):
            yield DREAMT, row[1]
        elif name.endswith(REAL) if learns else name.startswith(acts):
            yield REALLY, row[1]


def _told(cell: dict[str, Any]) -> str:
    """Mean and spread, with how many episodes, as far as they are known: one episode has no spread."""
    return text(cell) if cell.get("n") is None else f"{text(cell)} ({cell['n']:.0f})"
