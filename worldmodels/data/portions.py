"""The portions of the data that training batches are cut from: shards that are in memory together.

They lie on the device that trains if there is room.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from worldmodels.core.device import CPU
from worldmodels.core.errors import UserError
from worldmodels.data.shard import Shard

Table = dict[str, torch.Tensor]
Load = Callable[[list[Shard]], dict[str, np.ndarray]]
"""What some shards hold for training, as arrays with a row per frame or step."""
Plan = Callable[[list[int], np.random.Generator], Sequence[Any]]
"""A portion (the numbers of its shards), and luck -> for each batch, what of the portion's table belongs to it."""
Order = Callable[[int], np.random.Generator]
"""Epoch -> the luck that puts it in order."""


class Portions:
    """As many shards at a time as fit, in random order. Where all fit, they are read once and stay.

    Args:
        shards: to be read.
        sizes: rows of each that training may see.
        load: reads them.
        limit: rows in memory; never less than a shard.
        device: where they lie, if that leaves others half of its free memory; else in main memory.
    """

    def __init__(
        self, shards: list[Shard], sizes: Sequence[int], load: Load, limit: int, device: torch.device = CPU
    ) -> None:
        self._shards = shards
        self._sizes = sizes
        self._load = load
        self._limit = limit
        self._device = device
        self._portion: list[int] = []  # which one is in memory
        self._table: Table = {}

    def batches(self, plan: Plan, rng_of: Order, skip: int = 0) -> Iterator[tuple[Table, Any]]:
        """What to make batches of, for ever: a table, and what `plan` says of one batch of it.

        Args:
            plan: how some shards are cut into batches.
            rng_of: epoch -> numpy Generator.
            skip: batches to pass over (to resume); what only they need is not read.

        Raises:
            UserError: if no batch can be filled.
        """
        for epoch in itertools.count():
            rng = rng_of(epoch)
            any_planned = False
            for portion in self._epoch(rng):
                planned = plan(portion, rng)
                any_planned |= len(planned) > 0
                for batch in planned[skip:]:
                    yield self._read(portion), batch
                skip = max(0, skip - len(planned))
            if not any_planned:
                folder = self._shards[0].path.parent
                raise UserError(f"{folder} holds too little to fill a batch; collect more episodes")

    def _epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """Every shard once, portion by portion: the numbers of its shards, ascending."""
        portion: list[int] = []
        size = 0
        for number in rng.permutation(len(self._sizes)).tolist():
            if portion and size + self._sizes[number] > self._limit:
                yield sorted(portion)
                portion = []
                size = 0
            portion.append(number)
            size += self._sizes[number]
        yield sorted(portion)

    def _read(self, portion: list[int]) -> Table:
        """What its shards hold."""
        if portion != self._portion:
            self._table.clear()  # before the next is read
            self._table |= on_device(self._load([self._shards[i] for i in portion]), self._device)
            self._portion = portion
        return self._table


def on_device(arrays: dict[str, np.ndarray], device: torch.device = CPU) -> Table:
    """The arrays as tensors, on `device` if all of them take at most half of its free memory.

    Else all are in main memory, from where each batch is copied.
    """
    if device.type == "cuda" and 2 * sum(values.nbytes for values in arrays.values()) > _free(device):
        device = CPU
    return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}


def _free(device: torch.device) -> int:
    """Bytes of a GPU's memory that nobody holds, what torch keeps for later included."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def take(table: Table, index: np.ndarray) -> Table:
    """Rows `index` (any shape) of every column, gathered where the table lies."""
    at = torch.from_numpy(index).to(next(iter(table.values())).device)
    return {name: values[at] for name, values in table.items()}
