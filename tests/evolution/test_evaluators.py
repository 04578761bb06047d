from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core.device import resolved
from worldmodels.core.errors import UserError
from worldmodels.evolution.evaluators import BaselineEvaluator, RealEvaluator
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers.local import Workers

INPUTS = ("z", "c", "h")


@pytest.fixture
def spec(world: World) -> ControllerSpec:
    return ControllerSpec(EnvSpec("doom"), world.run, INPUTS, 0, False, 220, "auto")


def test_scores_in_the_real_game_do_not_depend_on_the_number_of_workers(spec: ControllerSpec) -> None:
    params = np.random.default_rng(0).normal(0, 1, (3, 40))
    seeds = [1, 2, 3]
    scores = []
    for num in (0, 1, 2):
        with Workers(num) as workers:
            scores.append(RealEvaluator(workers, spec, lockstep=4).evaluate(params, seeds))
    for other in scores[1:]:
        assert np.array_equal(scores[0].returns, other.returns) and np.array_equal(scores[0].lengths, other.lengths)
    assert scores[0].returns.shape == (3, 3) and len(np.unique(scores[0].returns)) > 4


def test_rows_are_candidates_and_columns_seeds(spec: ControllerSpec) -> None:
    params = np.random.default_rng(0).normal(0, 1, (2, 40))
    with Workers(0) as workers:
        evaluator = RealEvaluator(workers, spec, lockstep=4)
        both = evaluator.evaluate(params, [5, 6])
        assert np.array_equal(evaluator.evaluate(params[1:], [5, 6]).lengths[0], both.lengths[1])
        assert np.array_equal(evaluator.evaluate(params[::-1], [6, 5]).lengths, both.lengths[::-1, ::-1])


def test_baselines_play_the_real_game() -> None:
    with Workers(0) as workers:
        scores = BaselineEvaluator(workers, "doom", "still", max_steps=2100).evaluate([1, 2, 3])
    assert scores.returns.shape == (1, 3) and np.array_equal(scores.returns, scores.lengths)
    assert 40 < scores.returns.mean() < 400  # CLASSIC 2.8: 155 +- 49 for standing still


def test_auto_is_decided_before_a_controller_travels(spec: ControllerSpec) -> None:
    """Nodes with other processors would decide otherwise, and scores would depend on who plays."""
    there = spec.for_worker(Path("there"))
    assert there.run == Path("there") and spec.precision == "auto"
    assert there.precision == resolved("auto", torch.device("cpu")) in ("bf16", "fp32")


def test_a_model_trained_anew_meanwhile_is_not_mixed_in(spec: ControllerSpec) -> None:
    with pytest.raises(UserError, match="holds another V or M than when this began"):
        models.cached(spec.run, "what there was", "fp32")
    assert models.cached(spec.run, models.fingerprint(spec.run), "fp32").precision == "fp32"
