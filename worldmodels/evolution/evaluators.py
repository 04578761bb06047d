"""Params and seeds in, returns out; in the real environment or in dreams, by the same call."""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.agents import BlindAgent, ModelAgent
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.play import Player, by_controller
from worldmodels.envs.reused import numbers_in_an_action, reused
from worldmodels.models.base import WorldModel
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers.local import Workers

Done = Callable[[int], Any]
"""Called with the number of episodes that have ended since, for progress bars."""
TASK = 8  # episodes of a blind policy that are a worker's task


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
    """Tries candidates in dreams, many at a time.

    On a processor they dream in blocks of at most `model.rows_per_core`, each a task for one
    core. On a GPU all are one block: a step, C included, is one CUDA graph, and the host looks
    only now and then who still dreams.

    Args:
        model: what dreams; the one in `spec.run`, if there are workers.
        spec: how to act.
        tau: temperature.
        sample_end: of Dream.
        workers: where blocks are dreamt; None for this process.
        horizon: steps of dreams that begin in the midst of real episodes; 0 for whole ones.
        dropout: of Dream.
    """

    def __init__(
        self,
        model: WorldModel,
        spec: ControllerSpec,
        tau: float,
        sample_end: bool = False,
        workers: Workers | None = None,
        horizon: int = 0,
        dropout: float = 0.0,
    ) -> None:
        self._controller = spec.controller(model)
        act = by_controller(model, self._controller, spec.inputs)
        dream = Dream(model, tau, sample_end, horizon > 0, dropout)
        self.player = Player(dream, act, horizon or spec.max_steps, lean=True)
        on_gpu = self.player.records
        self._rows = sys.maxsize if on_gpu else model.rows_per_core
        self._workers = None if workers is None or workers.here or on_gpu else workers
        if self._workers:
            there = spec.for_worker(self._workers.send(spec.run, models.FILES))
            settings = (tau, sample_end, horizon, dropout)
            self._task = functools.partial(DreamTask, there, models.fingerprint(spec.run), *settings)

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        table = Scores(*np.zeros((2, len(params), len(seeds))))
        blocks = self.blocks(len(params), len(seeds))
        for index, scores in self._each([(params[rows], seeds[columns]) for rows, columns in blocks]):
            for whole, part in zip(table, scores, strict=True):
                whole[blocks[index]] = part
            if done:
                done(scores.returns.size)
        return table

    def blocks(self, population: int, episodes: int) -> list[tuple[slice, slice]]:
        """Which candidates dream which seeds side by side: the same, and so are results, for any workers."""
        width = _even(episodes, self._rows)
        height = _even(population, self._rows // width)
        starts = itertools.product(range(0, population, height), range(0, episodes, width))
        return [(slice(row, row + height), slice(column, column + width)) for row, column in starts]

    def _each(self, blocks: list[tuple[np.ndarray, list[int]]]) -> Iterable[tuple[int, Scores]]:
        if self._workers:
            return self._workers.each(dream_block, [self._task(*block) for block in blocks])
        return ((index, self._side_by_side(*block)) for index, block in enumerate(blocks))

    def _side_by_side(self, params: np.ndarray, seeds: list[int]) -> Scores:
        candidates = torch.as_tensor(params, dtype=torch.float32, device=self.player.dream.device)
        rows = self._controller.given(candidates).repeat_interleave(len(seeds), 0)
        lives = self.player.play(seeds, rows, copies=len(params))
        return Scores(*(of_all.reshape(len(params), len(seeds)).cpu().numpy() for of_all in lives))


class RealEvaluator:
    """Tries candidates in the real environment, on workers that each step several environments in lock step.

    The groups are fixed by `lockstep`, not by the number of workers, so neither are the results. What went
    wrong in episodes that others were played for is noted in `failures`. `patience` is that of `rollout`.
    """

    def __init__(
        self,
        workers: Workers,
        spec: ControllerSpec,
        lockstep: int = 8,
        failures: list[str] | None = None,
        patience: int = 0,
    ) -> None:
        self._workers = workers
        self._lockstep = lockstep
        self._failures = [] if failures is None else failures
        version = models.fingerprint(spec.run)
        there = spec.for_worker(workers.send(spec.run, models.FILES))
        self._task = functools.partial(RealTask, there, version, patience)

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        population = len(params)
        episodes = len(seeds)
        params = np.asarray(params, np.float32)
        candidate = np.repeat(np.arange(population), episodes)
        seed = np.tile(seeds, population)
        groups = (slice(i, i + self._lockstep) for i in range(0, population * episodes, self._lockstep))
        tasks = [self._task(*_own(params, candidate[group]), seed[group].tolist()) for group in groups]
        return _scores(self._workers.map(play_group, tasks, _count(done)), population, self._failures)


class BaselineEvaluator:
    """Scores of a policy that sees nothing, in the real environment; `failures` as in RealEvaluator."""

    def __init__(
        self, workers: Workers, env: EnvSpec, policy: str, max_steps: int, failures: list[str] | None = None
    ) -> None:
        self._workers = workers
        self._task = functools.partial(BlindTask, env, policy, max_steps)
        self._failures = [] if failures is None else failures

    def evaluate(self, seeds: list[int], done: Done | None = None) -> Scores:
        tasks = [self._task(seeds[i : i + TASK]) for i in range(0, len(seeds), TASK)]
        return _scores(self._workers.map(play_blind, tasks, _count(done)), 1, self._failures)


@dataclass(frozen=True)
class DreamTask:
    """Some candidates in the dreams of some seeds."""

    spec: ControllerSpec  # as the worker finds it
    version: str  # the fingerprint of V and M
    tau: float
    sample_end: bool
    horizon: int
    dropout: float
    params: np.ndarray  # (P, D)
    seeds: list[int]


@dataclass(frozen=True)
class RealTask:
    """Controllers in the real environment, side by side: rows of one seed each."""

    spec: ControllerSpec  # as the worker finds it
    version: str  # the fingerprint of V and M
    patience: int  # steps an episode may go unpaid; 0: any number
    params: np.ndarray  # float32 (P, D)
    which: np.ndarray  # (rows,), of the P
    seeds: list[int]  # (rows,)


@dataclass(frozen=True)
class BlindTask:
    """A policy that sees nothing, in the real environment."""

    env: EnvSpec
    policy: str
    max_steps: int
    seeds: list[int]


def dream_block(task: DreamTask) -> Scores:
    """A worker's task: scores of all its candidates on all its seeds."""
    model = task.spec.model(task.version)
    evaluator = DreamEvaluator(model, task.spec, task.tau, task.sample_end, None, task.horizon, task.dropout)
    return evaluator.evaluate(task.params, task.seeds)


def play_group(task: RealTask) -> list[Outcome]:
    """A worker's task: what came of each pair of controller and seed."""
    spec = task.spec
    model = spec.model(task.version)
    agent = ModelAgent(model, spec.controller(model), spec.inputs, task.params, which=task.which)
    envs = reused(spec.env, len(task.seeds))
    return rollout(envs, agent, task.seeds, spec.max_steps, patience=task.patience)


def play_blind(task: BlindTask) -> list[Outcome]:
    """A worker's task: one episode after the other, for nobody sees for several."""
    envs = reused(task.env, 1)
    agent = BlindAgent(task.policy, numbers_in_an_action(envs[0]))
    return rollout(envs, agent, task.seeds, task.max_steps)


def _own(params: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers (P, D) that some rows act by, each once, and which of them each row has."""
    chosen, which = np.unique(candidate, return_inverse=True)
    return params[chosen], which


def _scores(groups: list[list[Outcome]], population: int, failures: list[str]) -> Scores:
    """Of outcomes in the order of candidates, then seeds; adds to `failures` how the environment failed."""
    outcomes = [outcome for group in groups for outcome in group]
    failures += [told for outcome in outcomes for told in outcome.failures]
    pairs = [(outcome.episode_return, outcome.length) for outcome in outcomes]
    table = np.array(pairs, np.float64).reshape(population, -1, 2)
    return Scores(table[..., 0], table[..., 1])


def _even(total: int, most: int) -> int:
    """The size of parts of `total` that are at most `most`, as few and as even as can be."""
    return math.ceil(total / math.ceil(total / most))


def _count(done: Done | None) -> Callable[[list[Outcome]], Any] | None:
    return (lambda group: done(len(group))) if done else None
