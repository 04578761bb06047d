"""Batches of single frames, for a V that learns from pictures one by one."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from worldmodels.core import seeding
from worldmodels.core.allocator import apart
from worldmodels.core.device import CPU
from worldmodels.core.errors import UserError
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.data.portions import Order, Portions, Table, take
from worldmodels.data.rollouts import Rollouts
from worldmodels.data.shard import Shard
from worldmodels.data.source import Batch, Source


@dataclass(frozen=True)
class Frames:
    """Single frames, as `frame_batches` yields them: one kind of what a model can want (data/source.py: Wanted)."""

    steps = 1

    def training(self, source: Source, skip: int = 0) -> Iterator[Batch]:
        """See Wanted."""
        return frame_batches(source.rollouts, source.rows, source.buffer, source.order, skip, source.device)

    def held_out(self, source: Source) -> Callable[[], Iterator[Batch]]:
        """See Wanted."""
        batch = {"obs": held_out_frames(source.rollouts, source.checked, source.seed)}
        return functools.partial(iter, [batch])

    def made_up(self, rows: int, action_size: int, embed_size: int) -> Batch:
        """See Wanted."""
        return {"obs": torch.randint(256, (rows, *OBS_SHAPE), dtype=torch.uint8)}


def frame_batches(
    rollouts: Rollouts, batch_size: int, buffer: int, rng_of: Order, skip: int = 0, device: torch.device = CPU
) -> Iterator[Table]:
    """Shuffled batches of training frames, for ever, holding about `buffer` frames in memory.

    Every epoch visits the shards in another order; `buffer` frames at a time are read, shuffled and cut into batches.

    Args:
        rollouts: where the frames are.
        batch_size: frames per batch.
        buffer: frames in memory; never less than a shard nor a batch.
        rng_of: epoch -> numpy Generator.
        skip: batches to pass over without reading them (to resume).
        device: where frames lie, if there is room (data/portions.py).

    Yields:
        "obs": uint8 (batch_size, 64, 64, 3).
    """
    sizes = rollouts.training_frames
    if sum(sizes) < batch_size:
        raise UserError(
            f"--batch-size {batch_size} is more than the {sum(sizes)} training frames in {rollouts.folder}; "
            "give less, or collect more episodes"
        )
    portions = Portions(rollouts.shards, sizes, _read, max(buffer, 2 * batch_size), device)

    def plan(portion: list[int], rng: np.random.Generator) -> list[np.ndarray]:
        order = rng.permutation(sum(sizes[i] for i in portion))
        whole = len(order) // batch_size
        return list(order[: whole * batch_size].reshape(whole, batch_size))

    for table, frames in portions.batches(plan, rng_of, skip):
        yield take(table, np.sort(frames))


def held_out_frames(rollouts: Rollouts, count: int, seed: int) -> torch.Tensor:
    """uint8 (N, 64, 64, 3), N <= count, from all held-out episodes alike."""
    per_shard = math.ceil(count / len(rollouts.shards))
    frames = []
    for i, shard in enumerate(rollouts.shards[:count]):
        obs = shard.read("obs", int(shard.obs_starts[-2]))
        chosen = seeding.rng(seed, "held out", i).choice(len(obs), min(per_shard, len(obs)), replace=False)
        frames.append(obs[np.sort(chosen)])
    return torch.from_numpy(np.concatenate(frames)[:count])


def _read(shards: list[Shard]) -> dict[str, np.ndarray]:
    frames = apart((sum(int(shard.obs_starts[-2]) for shard in shards), *OBS_SHAPE), np.uint8)
    at = 0
    for shard in shards:
        count = int(shard.obs_starts[-2])
        frames[at : at + count] = shard.read("obs", 0, count)
        at += count
    return {"obs": frames}
