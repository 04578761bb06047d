import numpy as np

from tests.conftest import World
from worldmodels.evolution.planned import Decided, score_plans
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.planning import ByPlan
from worldmodels.workers.local import Workers


def test_planned_scores_do_not_depend_on_the_number_of_workers(world: World) -> None:
    settings = ByPlan(plan="icem", plan_candidates=4, plan_horizon=3)
    found: list[Decided] = []
    ended: list[int] = []
    for count in (0, 2):
        with Workers(count) as workers:
            asked = (workers, EnvSpec("doom"), world.run, settings, 1000, [1, 2])
            found.append(score_plans(*asked, ended.append, []))
    here, there = (one.scores for one in found)
    assert np.array_equal(here.returns, there.returns) and np.array_equal(here.lengths, there.lengths)
    assert here.returns.shape == (1, 2) and len(np.unique(here.returns)) > 1
    assert ended == [1] * 4 and all(one.milliseconds > 0 for one in found)
