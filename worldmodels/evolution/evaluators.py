"""Params and seeds in, returns out; in the real environment or in dreams, by the same call."""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from worldmodels import models
from worldmodels.acting.actor import Actor
from worldmodels.acting.agents import BlindAgent, ModelAgent
from worldmodels.acting.controller import Controller
from worldmodels.acting.rollout import rollout
from worldmodels.dreams.capture import Captured
from worldmodels.dreams.dream import Dream
from worldmodels.envs.pool import pooled
from worldmodels.models.base import State, WorldModel
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers.local import Workers

Done = Callable[[int], Any]
"""Called with the number of episodes that have ended since, for progress bars."""
COMPACT = 0.9  # when fewer rows than this share still dream, those that ended leave the batch
TASK = 8  # episodes of a blind policy that are a worker's task
RECORDED = "cuda"  # devices whose steps are recorded
LOOK = 16  # steps between looks, on a GPU, at who still dreams


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

    On a processor they dream in blocks of at most `model.rows_per_core`, each a task for one core. On a GPU all are one
    block: a step, C included, is one CUDA graph, and the host looks only now and then who still dreams.

    Args:
        model: what dreams; the one in `actor.run`, if there are workers.
        actor: how to act.
        tau: temperature.
        sample_end: of Dream.
        workers: where blocks are dreamt; None for this process.
    """

    def __init__(
        self, model: WorldModel, actor: Actor, tau: float, sample_end: bool = False, workers: Workers | None = None
    ) -> None:
        self._dream = Dream(model, tau, sample_end)
        self._controller, self._actor = actor.controller(model), actor
        self._on_gpu = self._dream.device.type == RECORDED
        self._advance = functools.partial(_advance, self._dream, self._controller, actor.inputs)
        self._step = Captured(self._advance) if self._on_gpu else self._advance
        self._rows = sys.maxsize if self._on_gpu else model.rows_per_core
        self._workers = None if workers is None or workers.here or self._on_gpu else workers
        if self._workers:
            there = actor.for_worker(self._workers.send(actor.run, models.FILES))
            self._task = (there, models.fingerprint(actor.run), tau, sample_end)

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        table, blocks = Scores(*np.zeros((2, len(params), len(seeds)))), self.blocks(len(params), len(seeds))
        for index, scores in self._each([(params[rows], seeds[columns]) for rows, columns in blocks]):
            for whole, part in zip(table, scores, strict=True):
                whole[blocks[index]] = part
            if done:
                done(scores.returns.size)
        return table

    def blocks(self, population: int, episodes: int) -> list[tuple[slice, slice]]:
        """Which candidates dream which seeds side by side. It depends on nothing else, so neither do the results."""
        width = _even(episodes, self._rows)
        height = _even(population, self._rows // width)
        starts = itertools.product(range(0, population, height), range(0, episodes, width))
        return [(slice(row, row + height), slice(column, column + width)) for row, column in starts]

    def _each(self, blocks: list[tuple[np.ndarray, list[int]]]) -> Iterable[tuple[int, Scores]]:
        if self._workers:
            return self._workers.each(dream_block, [(*self._task, *block) for block in blocks])
        return ((index, self._side_by_side(*block)) for index, block in enumerate(blocks))

    def _side_by_side(self, params: np.ndarray, seeds: list[int]) -> Scores:
        dream, device = self._dream, self._dream.device
        dream.begin(seeds, copies=len(params))
        returns = torch.zeros(len(params) * len(seeds), dtype=torch.float64, device=device)
        lengths = torch.zeros_like(returns)
        rows = torch.arange(len(returns), device=device)  # the dreams still in the batch
        candidates = torch.as_tensor(params, dtype=torch.float32, device=device)
        row_params, alive = candidates.repeat_interleave(len(seeds), 0), torch.ones_like(rows, dtype=torch.bool)
        paid, lasted = returns.clone(), lengths.clone()
        for step in range(1, self._actor.max_steps + 1):
            dream.state, row_params, alive, paid, lasted = self._step(
                dream.state, row_params, alive, paid, lasted, dream.draw()
            )
            if self._on_gpu and step % LOOK:
                continue
            count = int(alive.sum())
            if count == 0:
                break
            if self._on_gpu:  # few sizes, for each is recorded
                count = min(len(alive), 2 ** (count - 1).bit_length())
            if count < COMPACT * len(alive):
                returns[rows], lengths[rows] = paid, lasted
                left = alive.long().argsort(descending=True, stable=True)[:count]
                dream.keep(left)
                rows, row_params, alive, paid, lasted = (x[left] for x in (rows, row_params, alive, paid, lasted))
        returns[rows], lengths[rows] = paid, lasted
        shape = (len(params), len(seeds))
        return Scores(returns.reshape(shape).cpu().numpy(), lengths.reshape(shape).cpu().numpy())


def _advance(
    dream: Dream, controller: Controller, inputs: tuple[str, ...],
    state: State, params: Tensor, alive: Tensor, paid: Tensor, lasted: Tensor, noise: Tensor,
) -> tuple[State, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """One step of all rows; a row that ends is paid for its last step."""
    feat = dream.model.features(state, inputs).float()
    state, reward, terminated = dream.following(state, controller.act(params, feat), noise)
    return state, params, alive & ~terminated, paid + reward * alive, lasted + alive


class RealEvaluator:
    """Tries candidates in the real environment, on workers that each step several environments in lock step.

    The groups are fixed by `lockstep`, not by the number of workers, so neither are the results.
    """

    def __init__(self, workers: Workers, actor: Actor, lockstep: int = 8) -> None:
        self._workers, self._lockstep = workers, lockstep
        self._version = models.fingerprint(actor.run)
        self._actor = actor.for_worker(workers.send(actor.run, models.FILES))

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        population, episodes = len(params), len(seeds)
        params = np.asarray(params, np.float32)
        candidate, seed = np.repeat(np.arange(population), episodes), np.tile(seeds, population)
        groups = (slice(i, i + self._lockstep) for i in range(0, population * episodes, self._lockstep))
        tasks = [(self._actor, self._version, params[candidate[group]], seed[group].tolist()) for group in groups]
        outcomes = [outcome for group in self._workers.map(play_group, tasks, _count(done)) for outcome in group]
        table = np.array(outcomes, np.float64).reshape(population, episodes, 2)
        return Scores(table[..., 0], table[..., 1])


def _even(total: int, most: int) -> int:
    """The size of parts of `total` that are at most `most`, as few and as even as can be."""
    return math.ceil(total / math.ceil(total / most))


def dream_block(task: tuple[Actor, str, float, bool, np.ndarray, list[int]]) -> Scores:
    """A worker's task: some candidates in the dreams of some seeds."""
    actor, version, tau, sample_end, params, seeds = task
    model = models.cached(actor.run, version, actor.precision)
    return DreamEvaluator(model, actor, tau, sample_end).evaluate(params, seeds)


class BaselineEvaluator:
    """Scores of a policy that sees nothing, in the real environment."""

    def __init__(self, workers: Workers, env: EnvSpec, policy: str, max_steps: int) -> None:
        self._workers, self._task = workers, (env, policy, max_steps)

    def evaluate(self, seeds: list[int], done: Done | None = None) -> Scores:
        tasks = [(*self._task, seeds[i : i + TASK]) for i in range(0, len(seeds), TASK)]
        outcomes = [outcome for group in self._workers.map(play_blind, tasks, _count(done)) for outcome in group]
        table = np.array(outcomes, np.float64)[None]
        return Scores(table[..., 0], table[..., 1])


def play_group(task: tuple[Actor, str, np.ndarray, list[int]]) -> list[tuple[float, int]]:
    """A worker's task: the return and length of each pair of controller and seed."""
    actor, version, params, seeds = task
    model = models.cached(actor.run, version, actor.precision)
    agent = ModelAgent(model, actor.controller(model), actor.inputs, params)
    outcomes = rollout(pooled(actor.env, len(seeds)), agent, seeds, actor.max_steps)
    return [(o.episode_return, o.length) for o in outcomes]


def play_blind(task: tuple[EnvSpec, str, int, list[int]]) -> list[tuple[float, int]]:
    """A worker's task: the same for a blind policy; one episode after the other, for nobody sees for several."""
    env, policy, max_steps, seeds = task
    pool = pooled(env, 1)
    agent = BlindAgent(policy, pool[0].action_space.shape[0])  # type: ignore[index]
    return [(o.episode_return, o.length) for o in rollout(pool, agent, seeds, max_steps)]


def _count(done: Done | None) -> Callable[[list], Any] | None:
    return (lambda group: done(len(group))) if done else None
