"""The table of scores that commands end with, and the doubt that goes with it."""

from collections.abc import Mapping

import numpy as np

from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core import progress
from worldmodels.core.report import Summary, played_anew
from worldmodels.evolution.evaluators import RealEvaluator
from worldmodels.evolution.scoring import Played
from worldmodels.show import plots
from worldmodels.show.record import Number, Record
from worldmodels.workers.local import Workers

OURS = "our controller"
OURS_REALLY = f"{OURS} in the real"
OUR_PLANNER = "our planner"
THERE = ": there"
REAL = ": real"
"""How the names of C's scores in stage 4 end: in the dreams that it learnt in, and in the real environment."""


def really(
    spec: ControllerSpec, params: np.ndarray, seeds: list[int], workers: Workers, failures: list[str]
) -> dict[str, Played]:
    """The controller's episodes in its real environment, by what the table calls them.

    Args:
        spec: how it acts, and where.
        params: its numbers, float32 (D,).
        seeds: of the episodes.
        workers: who play.
        failures: gets how the environment failed.
    """
    with progress.bar(total=len(seeds), unit="episode", desc=f"real {spec.env.name}") as bar:
        scores = RealEvaluator(workers, spec, failures=failures).evaluate(params[None], seeds, bar.update)
    return {f"{OURS_REALLY} {spec.env.name}": Played.of(scores)}


def report(
    record: Record,
    title: str,
    scores: Mapping[str, Summary],
    failures: list[str],
    milliseconds: Mapping[str, float] | None = None,
) -> None:
    """Prints, keeps and draws the scores.

    Args:
        record: what keeps them.
        title: of the table.
        scores: who -> returns.
        failures: how the environment failed.
        milliseconds: who -> how long a decision takes, of those who take their time.
    """
    header = ["", "return, mean ± std", "95 % of the mean", "n"]
    rows: list[list[object]] = [[name, score, f"± {score.ci:.1f}", score.n] for name, score in scores.items()]
    if milliseconds:
        header.append("ms a decision")
        for row, name in zip(rows, scores, strict=True):
            row.append(Number(milliseconds[name], ".1f") if name in milliseconds else "")
    record.table(title, header, rows)
    record.note(*played_anew(failures))
    chart = record.path.parent / "scores.png"
    plots.bars(chart, {name: (score.mean, score.ci) for name, score in scores.items()}, title)
    record.plot(chart, "Returns, with 95 % confidence intervals of their means")
    record.show(record.path.parent / "reality.mp4", "The game, and what the agent sees")


def doubt(record: Record, scores: Mapping[str, Summary]) -> None:
    """Warns if the last does no better than one of the others."""
    *others, (name, ours) = scores.items()
    trivial = {label: score for label, score in others if "in the dream" not in label}
    best = max(trivial, key=lambda label: trivial[label].mean, default="")
    if best and ours.mean - trivial[best].mean <= ours.ci + trivial[best].ci:
        record.warn(f"{name} is no better than {best}, as far as {ours.n} episodes tell")
