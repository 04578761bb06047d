"""Episodes in real environments: several in lock step, one batch of decisions for all of them."""

from collections.abc import Callable, Sequence

import gymnasium
import numpy as np

from worldmodels.acting.agents import Agent
from worldmodels.acting.tape import Outcome, Tape
from worldmodels.envs.images import to_obs

Watch = Callable[[int, gymnasium.Env, np.ndarray], None]
"""Called with (step, env, obs) before each step of the first row, for those who film an agent that sees."""


def rollout(
    envs: Sequence[gymnasium.Env],
    agent: Agent,
    seeds: list[int],
    max_steps: int,
    record: bool = False,
    watch: Watch | None = None,
    truth: bool = False,
) -> list[Outcome]:
    """Plays one episode per seed, as many side by side as there are environments.

    Args:
        envs: reused, so make them once; what they show may be of any size, uint8 (H, W, 3), new at every step.
        agent: decides for all rows of a group at once.
        seeds: of the episodes; also what the agent's randomness comes from.
        max_steps: an episode that lasts as long is truncated.
        record: keep the episodes; else only their sums.
        watch: sees every step of the first row.
        truth: keep the true states too, of environments that tell them: `make_env(..., truth=True)`.

    Returns:
        Outcomes in the order of seeds.
    """
    groups = (seeds[i : i + len(envs)] for i in range(0, len(seeds), len(envs)))
    return [
        outcome for group in groups for outcome in _side_by_side(envs, agent, group, max_steps, record, watch, truth)
    ]


def _side_by_side(
    envs: Sequence[gymnasium.Env],
    agent: Agent,
    seeds: list[int],
    max_steps: int,
    record: bool,
    watch: Watch | None,
    truth: bool,
) -> list[Outcome]:
    """One group in lock step; episodes that end leave the batch."""
    begun = [env.reset(seed=seed) for env, seed in zip(envs, seeds, strict=False)]
    obs = _shown([picture for picture, _ in begun], agent)
    told = [info["truth"] if truth else None for _, info in begun]
    tapes = [Tape(seed, first, record, true) for seed, first, true in zip(seeds, obs, told, strict=True)]
    agent.begin(seeds)
    rows, step = list(range(len(seeds))), 0
    while rows:
        actions = agent.act([obs[row] for row in rows], rows, step)
        if watch and rows[0] == 0:
            watch(step, envs[0], obs[0])
        step += 1
        steps = [envs[row].step(action) for row, action in zip(rows, actions, strict=True)]
        pictures = _shown([picture for picture, *_ in steps], agent)
        for i, row in enumerate(rows):
            obs[row], (_, reward, terminated, truncated, info) = pictures[i], steps[i]
            true = info["truth"] if truth else None
            tapes[row].add(actions[i], float(reward), obs[row], terminated, truncated or step >= max_steps, true)
        rows = [row for row in rows if not tapes[row].done]
    return [tape.outcome() for tape in tapes]


def _shown(pictures: list[np.ndarray], agent: Agent) -> list[np.ndarray]:
    """What goes to an agent and its tape: small if the agent sees; else the tape makes it small, later, with others."""
    return list(to_obs(pictures)) if agent.sees else pictures
