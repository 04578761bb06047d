"""A worker's task in stage 1: the episodes of one shard, played and packed.

It comes home as bytes: on a cluster workers have no part in this machine's disk.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from worldmodels.acting.agents import Agent, BlindAgent, ModelAgent
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.acting.rollout import TRIES, rollout
from worldmodels.core.errors import UserError
from worldmodels.core.seeding import integer
from worldmodels.data.episode import Episode
from worldmodels.data.shard import pack_shard
from worldmodels.envs.clips import train_clips
from worldmodels.envs.reused import numbers_in_an_action, reused
from worldmodels.settings.stages import CollectConfig

LOCKSTEP = 8  # environments that a worker steps side by side if a model sees for all of them; else one
ATTEMPTS = 20  # how often an episode shorter than --min-steps is collected anew


@dataclass(frozen=True)
class Trained:
    """A trained controller that collects."""

    spec: ControllerSpec
    version: str  # the fingerprint of V and M
    params: np.ndarray  # float32 (D,)


@dataclass(frozen=True)
class Task:
    """One shard: which episodes, and where to."""

    config: CollectConfig
    path: Path
    policy: str
    trained: Trained | None  # who acts, if it is no policy
    episodes: range
    round: int = 1  # of collecting (data/rollouts.py: last_round)


def collect_shard(task: Task) -> bytes:
    """A worker's task: plays the episodes of one shard."""
    envs = reused(task.config.spec, min(lockstep_of(task), len(task.episodes)))
    agent = agent_of(task, envs)
    failures = list[str]()
    groups = (task.episodes[i : i + len(envs)] for i in range(0, len(task.episodes), len(envs)))
    episodes = (one for those in groups for one in _played(task, those, envs, agent, failures))
    return pack_shard(episodes, _attributes(task, failures))


def _attributes(task: Task, failures: list[str]) -> dict[str, Any]:
    """What a shard says of itself; `failures` may still grow until it is packed."""
    config = task.config
    return {
        "env": config.spec.label,
        "policy": task.policy,
        "seed": config.seed,
        "max_steps": config.max_steps,
        "min_steps": config.min_steps,
        "patience": config.patience,
        "shard_size": config.shard_size,
        "noise": config.noise if task.trained else 0.0,
        "round": task.round,
        "clips": sorted(train_clips(config.spec)),
        "videos": config.spec.videos,
        "failures": failures,
    }


def _played(
    task: Task,
    episodes: range,
    envs: list[gymnasium.Env],
    agent: Agent,
    failures: list[str],
) -> list[Episode]:
    """Some episodes of a shard, each played anew until it is long enough; adds to `failures` what went wrong.

    Raises:
        UserError: if hardly any is long enough, or more fail than the shard has episodes: then what is left
            would not be what the environment is like.
    """
    config = task.config
    kept = dict[int, Episode]()
    for attempt in range(ATTEMPTS):
        todo = [index for index in episodes if index not in kept]
        seeds = [integer(config.seed, "collect", task.policy, index, attempt) for index in todo]
        outcomes = rollout(envs, agent, seeds, config.max_steps, record=True, patience=config.patience)
        failures += [told for outcome in outcomes for told in outcome.failures]
        if len(failures) > max(TRIES, len(task.episodes)):
            raise UserError(f"{failures[-1]}; more than half of the episodes fail like that")
        played = {i: o.episode for i, o in zip(todo, outcomes, strict=True) if o.episode}
        kept |= {i: episode for i, episode in played.items() if len(episode) >= config.min_steps}
        if len(kept) == len(episodes):
            return [kept[index] for index in episodes]
    raise UserError(f"--min-steps {config.min_steps} is hardly ever reached; give a smaller one")


def lockstep_of(task: Task) -> int:
    return LOCKSTEP if task.trained else 1


def agent_of(task: Task, envs: list[gymnasium.Env]) -> Agent:
    if task.trained is None:
        return BlindAgent(task.policy, numbers_in_an_action(envs[0]))
    spec = task.trained.spec
    model = task.trained.spec.model(task.trained.version)
    return ModelAgent(model, spec.controller(model), spec.inputs, task.trained.params, task.config.noise)
