"""What a stage has to make batches of; which of them a model wants, it says itself (frames, chunks, sequences)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from worldmodels.core import seeding
from worldmodels.core.device import CPU
from worldmodels.core.errors import UserError
from worldmodels.data.embeddings import Embeddings
from worldmodels.data.rollouts import Rollouts

Batch = dict[str, Any]
"""Tensors by name, and "fresh": whether a state that was carried on to it is to be forgotten. Absent, it is not."""


@dataclass(frozen=True)
class Source:
    """Where the batches of a stage come from, and how many rows they have."""

    stage: str  # "vision" or "memory"
    seed: int
    rollouts: Rollouts
    rows: int  # B, for all processes together
    buffer: int  # frames or steps in memory
    checked: int  # held-out frames or steps that a check takes, about
    embeddings: Embeddings | None = None  # of V, where M learns
    device: torch.device = CPU

    def order(self, epoch: int) -> np.random.Generator:
        """The luck that puts an epoch in order (data/portions.py: Order)."""
        return seeding.rng(self.seed, self.stage, "order", epoch)

    @property
    def seen(self) -> Embeddings:
        """The embeddings. Raises UserError if there are none yet: V itself learns from frames."""
        if self.embeddings is None:
            raise UserError('there are no codes before V is trained: a V learns from "obs"')
        return self.embeddings


class Wanted(Protocol):
    """A kind of batches. Plain data."""

    @property
    def steps(self) -> int:
        """How many frames or steps a row of a batch has."""
        ...

    def training(self, source: Source, skip: int = 0) -> Iterator[Batch]:
        """Batches to learn from, for ever, from number `skip` on."""
        ...

    def held_out(self, source: Source) -> Callable[[], Iterator[Batch]]:
        """What gives the batches of episodes that are never learnt from: the same ones, each time it is called."""
        ...

    def made_up(self, rows: int, action_size: int, embed_size: int) -> Batch:
        """A batch that looks like those, of random numbers: to measure how long one takes."""
        ...


def made_up_steps(rows: int, length: int, action_size: int, prefix: str = "") -> Batch:
    """Random numbers in place of what goes with frames or embeddings: (B, T, ...).

    `prefix` stands before the names of what belongs to a step, not to a frame: "arrival_" or nothing.
    """
    zeros = {name: torch.zeros(rows, length) for name in ("terminated", "is_first")}
    return zeros | {
        f"{prefix}action": torch.rand(rows, length, action_size) * 2 - 1,
        f"{prefix}reward": torch.rand(rows, length),
    }
