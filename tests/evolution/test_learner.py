"""CMA-ES as a learner of stage 4."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.conftest import World
from worldmodels.evolution.evaluators import Scores
from worldmodels.evolution.learner import Evolution


class TwoWorlds:
    """Candidates whose first number is above 0 are paid well in one and badly in the other; the others evenly, less."""

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Callable[[int], None] | None = None) -> Scores:
        bold = params[:, :1] > 0
        returns = np.where(bold, [[20.0, 0.0]], [[9.0, 9.0]])
        return Scores(returns, np.ones_like(returns))


@pytest.mark.parametrize(("caution", "bold"), [(0.0, True), (0.5, False)])
def test_caution_counts_what_differs_between_worlds_for_less(world: World, caution: float, bold: bool) -> None:
    config = dataclasses.replace(world.controller(), caution=caution, pop_size=16, episodes=2, generations=8)
    evolution = Evolution(config, TwoWorlds(), 3)
    lines = [evolution.advance() for _ in range(8)]
    assert (evolution.params[0] > 0) == bold
    assert lines[-1]["fitness_best"] == (10 - caution * 10 if bold else 9)
