"""Two workers beside one, at the same tasks."""

from collections.abc import Iterator

from benchmarks.measure import Row, Work
from worldmodels.envspec import EnvSpec
from worldmodels.evaluators import BaselineEvaluator
from worldmodels.workers import Workers

EPISODES = 64


def rows() -> Iterator[Row]:
    with Workers(1) as one, Workers(2) as two:
        yield Row("workers, 2 beside 1", "episodes/s", plays(two), plays(one), None, 1.8)


def plays(workers: Workers) -> Work:
    evaluator = BaselineEvaluator(workers, EnvSpec("doom"), "varied", 300)
    return lambda: len(evaluator.evaluate(list(range(EPISODES))).returns[0])
