"""Two workers beside one, at the same tasks."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.dream import doom_parts, dreams_of, save
from benchmarks.measure import Row, Work
from worldmodels.evolution.evaluators import BaselineEvaluator
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers.local import Workers

EPISODES, STEPS = 64, 120


def rows() -> Iterator[Row]:
    with Workers(1) as one, Workers(2) as two, tempfile.TemporaryDirectory() as folder:
        yield Row("workers, 2 beside 1", "episodes/s", plays(two), plays(one), None, 1.8)
        run = save(Path(folder), *doom_parts())
        sides = (dreams_of(run, workers, STEPS) for workers in (two, one))
        yield Row("dreams on 2 workers beside 1", "steps/s", *sides, times_reference=1.8)


def plays(workers: Workers) -> Work:
    evaluator = BaselineEvaluator(workers, EnvSpec("doom"), "varied", 300)
    return lambda: len(evaluator.evaluate(list(range(EPISODES))).returns[0])
