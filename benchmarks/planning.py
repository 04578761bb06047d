"""Decisions by planning, at laptop size: beside a candidate at a time, and beside the 30 ms that one may take."""

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.dream import doom_parts, paired, rssm_parts
from benchmarks.measure import Row, Work
from worldmodels.dreams.planning import UPDATES
from worldmodels.dreams.planning_agent import PlanningAgent
from worldmodels.models.base import WorldModel
from worldmodels.settings.planning import ByPlan

DECISIONS = 10
LONGEST = 0.030  # seconds


def rows() -> Iterator[Row]:
    for size, parts in (("Doom's size", doom_parts), ("RSSM of laptop size", rssm_parts)):
        model = paired(*parts())
        plain = paired(*parts(), precision="fp32")
        for plan in UPDATES:
            settings = ByPlan(plan=plan)  # type: ignore[arg-type]
            ours = deciding(model, settings)
            yield Row(f"{plan}, {size}", "decisions/s", ours, one_at_a_time(plain, settings), in_time, 10.0, 1.0)


def deciding(model: WorldModel, settings: ByPlan) -> Work:
    """From a picture to an action, as in the real environment."""
    agent = PlanningAgent(model, settings)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    def decide() -> float:
        agent.begin([0])
        for step in range(DECISIONS):
            agent.act([picture], [0], step)
        return DECISIONS

    return decide


def one_at_a_time(model: WorldModel, settings: ByPlan) -> Work:
    """The obvious code: a candidate, a step, a row; fp32. One decision."""
    state = model.observe(
        model.initial(1),
        torch.zeros(1, model.action_size),
        model.starts[:1],
        torch.ones(1, 1),
        torch.full((1, model.noise_size), 0.5),
    )

    @torch.no_grad()
    def decide() -> float:
        values = []
        for _ in range(settings.plan_candidates):
            now = state
            value = 0.0
            for action in torch.randn(settings.plan_horizon, 1, model.action_size).clamp(-1, 1):
                now, reward, _, _ = model.imagine(now, action, torch.rand(1, model.noise_size))
                value += float(reward)
            values.append(value)
        return float(np.isfinite(max(values)))

    return decide


def in_time() -> float:
    """Decisions as slow as they may be."""
    time.sleep(DECISIONS * LONGEST)
    return DECISIONS
