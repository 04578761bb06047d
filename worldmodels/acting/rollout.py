"""Episodes in real environments: several in lock step, one batch of decisions for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from worldmodels.acting.agents import Agent
from worldmodels.acting.tape import Outcome, Tape
from worldmodels.core.errors import UserError
from worldmodels.core.seeding import integer
from worldmodels.envs.checked import Misstep
from worldmodels.envs.images import to_obs

TRIES = 10  # episodes that fail one after another before it is the rule
Watch = Callable[[int, gymnasium.Env, np.ndarray], None]
"""Called with (step, env, obs) before each step of the first row, for those who film an agent that sees; from
step 0 again where its episode is played anew."""


def rollout(
    envs: Sequence[gymnasium.Env],
    agent: Agent,
    seeds: list[int],
    max_steps: int,
    record: bool = False,
    watch: Watch | None = None,
    truth: bool = False,
    patience: int = 0,
) -> list[Outcome]:
    """Plays one episode per seed, as many side by side as there are environments.

    Where an environment fails, that episode alone is played anew, from a seed that follows from its own; so
    all who are given a seed meet the same luck in its place, wherever they are played.

    Args:
        envs: they are reused, so make them once; what they show is uint8 (H, W, 3), of any size, a new array
            at every step.
        agent: decides for all rows of a group at once.
        seeds: of the episodes; also what the agent's randomness comes from.
        max_steps: an episode that lasts as long is truncated.
        record: keep the episodes; else only their sums.
        watch: sees every step of the first row.
        truth: keep the true states too, of environments that tell them: `make_env(..., truth=True)`.
        patience: steps on end without a positive reward after which an episode is truncated; 0: none is.

    Returns:
        Outcomes in the order of seeds.

    Raises:
        UserError: if it is the rule that the environment fails, or the agent does not act in numbers.
    """
    play = partial(_side_by_side, envs, agent, max_steps, record, watch, truth, patience)
    groups = (seeds[i : i + len(envs)] for i in range(0, len(seeds), len(envs)))
    return [outcome for group in groups for outcome in _until_whole(group, play)]


def _until_whole(
    seeds: list[int], play: Callable[[list[int], list[int]], dict[int, Outcome | Misstep]]
) -> list[Outcome]:
    """One group; rows whose environment fails are played again, those rows alone."""
    now = list(seeds)
    rows = list(range(len(seeds)))
    whole = dict[int, Outcome]()
    failures: list[list[str]] = [[] for _ in seeds]
    for attempt in range(1, TRIES + 1):
        for row, came in play(now, rows).items():
            if isinstance(came, Misstep):
                failures[row].append(str(came))
                now[row] = integer(seeds[row], "again", attempt)
            else:
                whole[row] = replace(came, failures=tuple(failures[row]))
        rows = [row for row in rows if row not in whole]
        if not rows:
            return [whole[row] for row in range(len(seeds))]
    last = failures[rows[0]][-1]
    raise UserError(f"{last}; and so {TRIES} times on end: this environment cannot be played")


def _side_by_side(
    envs: Sequence[gymnasium.Env],
    agent: Agent,
    max_steps: int,
    record: bool,
    watch: Watch | None,
    truth: bool,
    patience: int,
    seeds: list[int],
    rows: list[int],
) -> dict[int, Outcome | Misstep]:
    """The given rows of one group in lock step; episodes that end, and those that fail, leave the batch."""
    failed = dict[int, Misstep]()
    begun = _tried({row: partial(envs[row].reset, seed=seeds[row]) for row in rows}, failed)
    obs = dict(zip(begun, _shown([picture for picture, _ in begun.values()], agent), strict=True))
    told = {row: info["truth"] if truth else None for row, (_, info) in begun.items()}
    tapes = {row: Tape(seeds[row], first, record, told[row], patience) for row, first in obs.items()}
    agent.begin(seeds)
    rows = list(begun)
    step = 0
    while rows:
        actions = agent.act([obs[row] for row in rows], rows, step)
        if agent.sees and not np.isfinite(actions).all():
            raise UserError(
                "an action is not a number: V, M or C holds weights that are not numbers; train them anew",
            )
        if watch and rows[0] == 0:
            watch(step, envs[0], obs[0])
        step += 1
        chosen = dict(zip(rows, actions, strict=True))
        steps = _tried({row: partial(envs[row].step, action) for row, action in chosen.items()}, failed)
        obs = dict(zip(steps, _shown([picture for picture, *_ in steps.values()], agent), strict=True))
        for row, (_, reward, terminated, truncated, info) in steps.items():
            true = info["truth"] if truth else None
            over = truncated or step >= max_steps
            tapes[row].add(chosen[row], float(reward), obs[row], terminated, over, true)
        rows = [row for row in steps if not tapes[row].done]
    return failed | {row: tape.outcome() for row, tape in tapes.items() if row not in failed}


def _tried(calls: dict[int, partial[Any]], failed: dict[int, Misstep]) -> dict[int, Any]:
    """What comes of each row's call; of a row whose environment fails, only `failed` knows from then on."""
    came = dict[int, Any]()
    for row, call in calls.items():
        try:
            came[row] = call()
        except Misstep as error:
            failed[row] = error
    return came


def _shown(pictures: list[np.ndarray], agent: Agent) -> list[np.ndarray]:
    """What an agent and its tape get: observations if it sees; else pictures, which the tape shrinks."""
    return list(to_obs(pictures)) if agent.sees and pictures else pictures
