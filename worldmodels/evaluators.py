"""Params and seeds in, returns out; in the real environment or in dreams, by the same call."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import torch

from worldmodels import models
from worldmodels.actor import Actor
from worldmodels.agents import BlindAgent, ModelAgent
from worldmodels.envs import make_env
from worldmodels.envs.dream import Dream
from worldmodels.envspec import EnvSpec
from worldmodels.models.base import WorldModel
from worldmodels.rollout import rollout
from worldmodels.workers import Workers

Done = Callable[[int], Any]
"""Called with the number of episodes that have ended since, for progress bars."""
COMPACT = 0.9  # when fewer rows than this share still dream, those that ended leave the batch
ROWS = 1024  # that dream side by side on a processor: more would neither be faster nor fit its cache


class Scores(NamedTuple):
    """Returns and lengths of P candidates on E episodes each, float64 (P, E)."""

    returns: np.ndarray
    lengths: np.ndarray


class Evaluator(Protocol):
    """Where candidates are tried."""

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        """Every candidate of `params` (P, D) on every seed."""
        ...


class DreamEvaluator:
    """Tries candidates in dreams: the whole population times its episodes is one batch, or few."""

    def __init__(self, model: WorldModel, actor: Actor, tau: float, sample_end: bool = False) -> None:
        self._dream = Dream(model, tau, sample_end)
        self._controller, self._actor = actor.controller(model), actor

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        together = max(1, ROWS // len(seeds)) if self._dream.device.type == "cpu" else len(params)
        scores = []
        for candidates in (params[i : i + together] for i in range(0, len(params), together)):
            scores.append(self._side_by_side(candidates, seeds))
            if done:
                done(len(candidates) * len(seeds))
        return Scores(*(np.concatenate(parts) for parts in zip(*scores, strict=True)))

    def _side_by_side(self, params: np.ndarray, seeds: list[int]) -> Scores:
        population, episodes = len(params), len(seeds)
        dream, device = self._dream, self._dream.device
        dream.begin(seeds, copies=population)
        returns = torch.zeros(population * episodes, dtype=torch.float64, device=device)
        lengths = torch.zeros_like(returns)
        rows = torch.arange(population * episodes, device=device)  # the dreams still in the batch
        alive = torch.ones(len(rows), dtype=torch.bool, device=device)
        candidates = torch.as_tensor(params, dtype=torch.float32, device=device)
        row_params = candidates.repeat_interleave(episodes, 0)
        for _ in range(self._actor.max_steps):
            action = self._controller.act(row_params, dream.features(self._actor.inputs))
            reward, terminated = dream.step(action)
            returns[rows] += reward * alive  # the last step is paid too
            lengths[rows] += alive
            alive = alive & ~terminated
            share = float(alive.float().mean())
            if share == 0:
                break
            if share < COMPACT:
                left = alive.nonzero().squeeze(1)
                dream.keep(left)
                rows, row_params, alive = rows[left], row_params[left], alive[left]
        shape = (population, episodes)
        return Scores(returns.reshape(shape).cpu().numpy(), lengths.reshape(shape).cpu().numpy())


class RealEvaluator:
    """Tries candidates in the real environment, on workers that each step several environments in lock step.

    The groups are fixed by `lockstep`, not by the number of workers, so neither are the results.
    """

    def __init__(self, workers: Workers, actor: Actor, lockstep: int = 8) -> None:
        self._workers, self._actor, self._lockstep = workers, actor, lockstep

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        population, episodes = len(params), len(seeds)
        params = np.asarray(params, np.float32)
        version = models.fingerprint(self._actor.run)
        there = self._workers.send(self._actor.run, models.FILES)
        actor = self._actor.elsewhere(there)
        candidate, seed = np.repeat(np.arange(population), episodes), np.tile(seeds, population)
        tasks = [
            (actor, version, params[candidate[i : i + self._lockstep]], seed[i : i + self._lockstep].tolist())
            for i in range(0, population * episodes, self._lockstep)
        ]
        outcomes = [outcome for group in self._workers.map(play_group, tasks, _count(done)) for outcome in group]
        table = np.array(outcomes, np.float64).reshape(population, episodes, 2)
        return Scores(table[..., 0], table[..., 1])


class BaselineEvaluator:
    """Scores of a policy that sees nothing, in the real environment."""

    def __init__(self, workers: Workers, env: EnvSpec, policy: str, max_steps: int, lockstep: int = 8) -> None:
        self._workers, self._task, self._lockstep = workers, (env, policy, max_steps), lockstep

    def evaluate(self, seeds: list[int], done: Done | None = None) -> Scores:
        tasks = [(*self._task, seeds[i : i + self._lockstep]) for i in range(0, len(seeds), self._lockstep)]
        outcomes = [outcome for group in self._workers.map(play_blind, tasks, _count(done)) for outcome in group]
        table = np.array(outcomes, np.float64)[None]
        return Scores(table[..., 0], table[..., 1])


def play_group(task: tuple[Actor, str, np.ndarray, list[int]]) -> list[tuple[float, int]]:
    """A worker's task: the return and length of each pair of controller and seed."""
    actor, version, params, seeds = task
    model = cached_model(actor.run, version, actor.precision)
    agent = ModelAgent(model, actor.controller(model), actor.inputs, params)
    outcomes = rollout(envs(actor.env, len(seeds)), agent, seeds, actor.max_steps)
    return [(o.episode_return, o.length) for o in outcomes]


def play_blind(task: tuple[EnvSpec, str, int, list[int]]) -> list[tuple[float, int]]:
    """A worker's task: the same for a blind policy."""
    env, policy, max_steps, seeds = task
    group = envs(env, len(seeds))
    agent = BlindAgent(policy, group[0].action_space.shape[0])  # type: ignore[index]
    return [(o.episode_return, o.length) for o in rollout(group, agent, seeds, max_steps)]


def _count(done: Done | None) -> Callable[[list], Any] | None:
    return (lambda group: done(len(group))) if done else None


_ENVS: dict[EnvSpec, list[gymnasium.Env]] = {}


def envs(spec: EnvSpec, count: int) -> list[gymnasium.Env]:
    """`count` environments of this process, made once and used again."""
    pool = _ENVS.setdefault(spec, [])
    while len(pool) < count:
        pool.append(make_env(spec))
    return pool[:count]


@functools.lru_cache(maxsize=2)
def cached_model(run: Path, version: str, precision: str) -> WorldModel:
    """The world model of a run; `version` is its fingerprint, so that a model trained anew is read anew."""
    return models.load(run, precision=precision)
