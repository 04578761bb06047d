"""What stage 1 would take."""

import time
from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import torch

from worldmodels.acting.agents import Agent
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.core.seeding import integer
from worldmodels.data.shard import pack_shard
from worldmodels.envs.reused import reused
from worldmodels.estimate.costs import FRAME, LONG_ENOUGH, Cost, Size, own_memory, show
from worldmodels.settings.stages import CollectConfig

EPISODES = 8  # that are played


def collection(
    config: CollectConfig,
    policy: str,
    episodes: int,
    agent_of: Callable[[list[gymnasium.Env]], Agent],
    lockstep: int,
) -> float:
    """Plays a few episodes for a few seconds, and says what `episodes` of them would take; returns the seconds.

    Args:
        config: of the stage.
        policy: its name.
        episodes: that are not on disk yet.
        agent_of: environments -> who acts in them.
        lockstep: environments that a worker steps side by side.
    """
    torch.set_num_threads(1)  # as in a worker
    rows = min(EPISODES, config.shard_size)
    envs = reused(config.spec, min(lockstep, rows))
    sample = _sample(config, envs, agent_of(envs), rows)
    steps = sum(o.length for o in sample.outcomes)
    length = sum(config.max_steps if sample.cut_off(o) else o.length for o in sample.outcomes) / rows
    frames = episodes * (length + 1)
    cores = max(1, config.workers)
    packing, per_frame = _packing(sample)
    costs = [
        Cost("reset", sample.start / rows, episodes, "measured", cores),
        Cost("step", sample.playing / max(1, steps - rows), episodes * length, _how(config, sample), cores),
        Cost("frame compressed", packing, frames, "measured", cores),
    ]
    # twice: frames are put together for each episode, and a shard's bytes for the way home
    shard = 2 * (length + 1) * (len(envs) * FRAME + min(config.shard_size, max(1, episodes)) * per_frame)
    sizes = [
        Size("disk: rollouts", frames * per_frame, f"{frames:,.0f} frames of {per_frame:,.0f} bytes"),
        Size("memory: shards in hand", cores * shard, f"{cores} compressed, and the episodes being played"),
        own_memory()._replace(name="memory: each worker"),
    ]
    return show(f"{episodes} episodes of {config.spec.label} by {policy}, a dry run", costs, sizes)


class Sample(NamedTuple):
    """Episodes that were played to see how long they take."""

    outcomes: list[Outcome]
    limit: int  # steps after which they were cut off
    start: float  # seconds that their resets took, and a step of each
    took: float  # seconds in all

    @property
    def playing(self) -> float:
        """Seconds that their steps took, but for the first of each."""
        return max(0.0, self.took - self.start)

    def cut_off(self, outcome: Outcome) -> bool:
        """Whether an episode would have gone on."""
        return outcome.length == self.limit and not outcome.terminated  # one that was given up is shorter


def _packing(sample: Sample) -> tuple[float, float]:
    """Seconds that it takes to compress a frame, and the bytes that are left of it."""
    episodes = [outcome.episode for outcome in sample.outcomes if outcome.episode]
    frames = sum(outcome.length + 1 for outcome in sample.outcomes)
    began = time.perf_counter()
    size = len(pack_shard(episodes, {}))
    return (time.perf_counter() - began) / frames, size / frames


def _how(config: CollectConfig, sample: Sample) -> str:
    """Where the seconds of a step come from."""
    played = f"{len(sample.outcomes)} episodes played here"
    lasting = sum(not o.terminated and sample.limit < config.max_steps for o in sample.outcomes)
    return f"{played}; {lasting} outlived that: --max-steps" if lasting else played


def _sample(config: CollectConfig, envs: list[gymnasium.Env], agent: Agent, rows: int) -> Sample:
    """Plays so many episodes, ever more of each, until that takes long enough to be believed."""
    seeds = [integer(config.seed, "estimate", i) for i in range(rows)]

    def play(steps: int) -> tuple[list[Outcome], float]:
        began = time.perf_counter()
        outcomes = rollout(envs, agent, seeds, steps, record=True, patience=config.patience)
        return outcomes, time.perf_counter() - began

    play(1)  # the first reset may be slow
    outcomes, start = play(1)
    limit = 1
    took = start
    while limit < config.max_steps and took < LONG_ENOUGH and any(o.length == limit for o in outcomes):
        limit = min(config.max_steps, max(2 * limit, int(limit * LONG_ENOUGH / took / 2)))
        outcomes, took = play(limit)
    return Sample(outcomes, limit, start, took)
