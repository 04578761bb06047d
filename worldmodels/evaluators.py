"""Params and seeds in, returns out; in the real environment or in dreams, by the same call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from worldmodels import models
from worldmodels.actor import Actor
from worldmodels.agents import BlindAgent, ModelAgent
from worldmodels.capture import Captured
from worldmodels.controller import Controller
from worldmodels.envs.dream import Dream
from worldmodels.envs.pool import pooled
from worldmodels.envspec import EnvSpec
from worldmodels.models.base import State, WorldModel
from worldmodels.rollout import rollout
from worldmodels.workers import Workers

Done = Callable[[int], Any]
"""Called with the number of episodes that have ended since, for progress bars."""
COMPACT = 0.9  # when fewer rows than this share still dream, those that ended leave the batch
ROWS = 1024  # that dream side by side on a processor: more would neither be faster nor fit its cache
TASK = 8  # episodes of a blind policy that are a worker's task
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
    """Tries candidates in dreams: the whole population times its episodes is one batch, or few.

    On a GPU a step, C included, is one CUDA graph, and the host looks only now and then who still dreams.
    """

    def __init__(self, model: WorldModel, actor: Actor, tau: float, sample_end: bool = False) -> None:
        self._dream = Dream(model, tau, sample_end)
        self._controller, self._actor = actor.controller(model), actor
        self._on_gpu = self._dream.device.type == "cuda"
        self._advance = functools.partial(_advance, self._dream, self._controller, actor.inputs)
        self._step = Captured(self._advance) if self._on_gpu else self._advance

    def evaluate(self, params: np.ndarray, seeds: list[int], done: Done | None = None) -> Scores:
        together = len(params) if self._on_gpu else max(1, ROWS // len(seeds))
        scores = []
        for candidates in (params[i : i + together] for i in range(0, len(params), together)):
            scores.append(self._side_by_side(candidates, seeds))
            if done:
                done(len(candidates) * len(seeds))
        return Scores(*(np.concatenate(parts) for parts in zip(*scores, strict=True)))

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
