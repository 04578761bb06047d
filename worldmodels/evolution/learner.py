"""What lets C learn, step by step: the contract of all that stage 4 can be asked for, and CMA-ES as one of them."""

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from worldmodels.core import seeding
from worldmodels.core.errors import UserError
from worldmodels.evolution.cma_es import CMAES
from worldmodels.evolution.evaluators import Evaluator
from worldmodels.evolution.scoring import episode_seeds
from worldmodels.settings.stages import ControllerConfig


class Learner(Protocol):
    """Changes C by steps; stage 4 tests it between them, and keeps what was best."""

    unit: str  # what a step is called
    total: int  # steps in all
    log_every: int  # steps between lines of metrics
    save_every: int  # steps between checkpoints
    finishes: bool  # whether a step is so short that Ctrl-C waits for it and for its checkpoint

    @property
    def step(self) -> int:
        """Steps so far."""
        ...

    @property
    def params(self) -> np.ndarray:
        """(D,), what is to be tested and kept."""
        ...

    def start_from(self, params: np.ndarray, checkpoint: Path) -> None:
        """Begins, before its first step, with the numbers (D,) of another C, and with what else of that lies in
        `checkpoint`, if that exists."""
        ...

    def advance(self) -> dict[str, float]:
        """One step. Returns its line of metrics. Raises UserError if what comes of it is no number."""
        ...

    def brief(self, line: dict[str, float]) -> dict[str, str]:
        """What of a line the progress bar shows."""
        ...

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, for a checkpoint."""
        ...

    def load(self, state: dict[str, Any], source: Path) -> None:
        """Goes on from where `state` was taken. Raises UserError naming `source` if it cannot."""
        ...


class Evolution:
    """A Learner: asks for candidates, evaluates them, and tells what came of it.

    Args:
        config: of stage 4.
        world: where candidates are tried.
        num_params: D.
    """

    unit = "gen"
    log_every = 1
    save_every = 1
    finishes = False

    def __init__(self, config: ControllerConfig, world: Evaluator, num_params: int) -> None:
        self.total = config.generations
        self._config = config
        self._world = world
        self._search = self._new(np.zeros(num_params))

    @property
    def step(self) -> int:
        return self._search.generation

    @property
    def params(self) -> np.ndarray:
        return self._search.mean

    def start_from(self, params: np.ndarray, checkpoint: Path) -> None:
        """Searches about `params`, which is all that it takes over."""
        self._search = self._new(params)

    def _new(self, mean: np.ndarray) -> CMAES:
        seed = seeding.integer(self._config.seed, "cma")
        return CMAES(len(mean), self._config.pop_size, self._config.sigma0, seed, mean)

    def advance(self) -> dict[str, float]:
        generation = self.step
        began = time.monotonic()
        candidates = self._search.ask()
        seeds = episode_seeds(self._config.seed, "train", self._config.episodes, generation)
        scores = self._world.evaluate(candidates, seeds)
        fitness = scores.returns.mean(1)
        if self._config.caution:
            fitness = fitness - self._config.caution * scores.returns.std(1)
        self._search.tell(fitness)
        return self._line(fitness, scores.lengths, time.monotonic() - began)

    def brief(self, line: dict[str, float]) -> dict[str, str]:
        return {"fitness": f"{line['fitness_mean']:.0f}", "steps/s": f"{line['steps_per_second']:.0f}"}

    def state(self) -> dict[str, Any]:
        return self._search.state()

    def load(self, state: dict[str, Any], source: Path) -> None:
        self._search.load(state, source)

    def _line(self, fitness: np.ndarray, lengths: np.ndarray, seconds: float) -> dict[str, float]:
        if not np.isfinite(fitness).all():
            raise UserError("a fitness is not finite: V or M holds weights that are not numbers; train them anew")
        return {
            "fitness_mean": float(fitness.mean()),
            "fitness_best": float(fitness.max()),
            "fitness_std": float(fitness.std()),
            "length": float(lengths.mean()),
            "sigma": self._search.sigma,
            "seconds": seconds,
            "steps_per_second": float(lengths.sum() / seconds),
        }
