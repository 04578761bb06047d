"""What an actor saw, did and was paid in real episodes, which workers play."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldmodels.acting.agents import TryingAgent
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.acting.rollout import rollout
from worldmodels.envs.reused import reused


class Lived(NamedTuple):
    """One episode of L steps and K decisions."""

    feat: np.ndarray  # float32 (K, F), what was seen at each decision
    action: np.ndarray  # float32 (K, A), as sampled
    rewards: np.ndarray  # float32 (L,), of each step
    over: bool  # nothing more was to come: it ended, or was given up; else it was cut short
    failures: tuple[str, ...]  # how the environment failed before


@dataclass(frozen=True)
class LivedTask:
    """Some episodes of one actor, side by side."""

    spec: ControllerSpec  # as the worker finds it
    version: str  # the fingerprint of V and M
    patience: int  # steps an episode may go unpaid; 0: any number
    hold: int  # steps that a decision lasts
    by_chance: bool
    params: np.ndarray  # float32 (D,)
    seeds: list[int]


def play(task: LivedTask) -> list[Lived]:
    """A worker's task: what came of each seed."""
    spec = task.spec
    model = spec.model(task.version)
    agent = TryingAgent(model, spec.new_actor(model), spec.inputs, task.params, task.hold, task.by_chance)
    envs = reused(spec.env, len(task.seeds))
    outcomes = rollout(envs, agent, task.seeds, spec.max_steps, patience=task.patience)
    return [
        Lived(*agent.told(row), outcome.rewards, outcome.terminated or outcome.given_up, outcome.failures)
        for row, outcome in enumerate(outcomes)
    ]


def paid(rewards: np.ndarray, hold: int, discount: float) -> tuple[np.ndarray, np.ndarray]:
    """What K decisions were paid until the next one, discounted, and the discount of all that comes after.

    Args:
        rewards: (L,), of each step.
        hold: steps that a decision lasts; the last one's may be fewer.
        discount: what a step later is worth.

    Returns:
        Two of (K,), float64.
    """
    decisions = -(-len(rewards) // hold)
    steps = np.full(decisions, hold)
    steps[-1] -= decisions * hold - len(rewards)
    whole = np.zeros(decisions * hold)
    whole[: len(rewards)] = rewards
    return whole.reshape(decisions, hold) @ discount ** np.arange(hold), discount ** steps.astype(float)
