"""An agent that plans, where agents act: in the real game."""

import numpy as np
import pytest
import torch

from worldmodels.acting.rollout import rollout
from worldmodels.dreams.planning_agent import PlanningAgent
from worldmodels.envs import make_env
from worldmodels.models.base import WorldModel
from worldmodels.settings.planning import ByPlan

SMALL = {"plan_candidates": 8, "plan_horizon": 4}


@pytest.mark.parametrize("plan", ["cem", "icem", "mppi"])
def test_an_episode_is_the_same_alone_and_in_company(model: WorldModel, plan: str) -> None:
    envs = [make_env("doom", shrink=False) for _ in range(2)]
    agent = PlanningAgent(model, ByPlan(plan=plan, **SMALL))  # type: ignore[arg-type]
    company = rollout(envs, agent, [5, 8], 12, record=True)
    alone = rollout(envs[:1], agent, [5, 8], 12, record=True)
    for one, other in zip(company, alone, strict=True):
        assert one.episode is not None and other.episode is not None
        assert np.array_equal(one.episode.action, other.episode.action)
    actions = [outcome.episode.action for outcome in company if outcome.episode is not None]
    assert not np.array_equal(*actions) and all(np.abs(each).max() <= 1 for each in actions)
    assert agent.decisions == 48 and agent.seconds > 0
    for env in envs:
        env.close()


def test_rows_whose_episode_is_over_leave(model: WorldModel) -> None:
    agent = PlanningAgent(model, ByPlan(plan="icem", **SMALL))
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8))
    agent.begin([1, 2, 3])
    agent.act(pictures, [0, 1, 2], 0)
    assert len(agent.state["z"]) == 3
    last = agent.act(pictures[1:], [1, 2], 1)
    assert last.shape == (2, 1) and last.dtype == np.float32 and len(agent.state["z"]) == 2
    alone = PlanningAgent(model, ByPlan(plan="icem", **SMALL))
    alone.begin([3])
    alone.act(pictures[2:], [0], 0)
    assert np.array_equal(alone.act(pictures[2:], [0], 1)[0], last[1])
    assert torch.equal(alone.state["h"][0], agent.state["h"][1])
