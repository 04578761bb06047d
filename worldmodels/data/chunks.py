"""Windows of frames in arrival form, for models that learn from short sequences without carrying their state on.

Arrival form: with each frame goes what led to it, the action taken before it and the reward received on reaching it
(HRSSM 3.4: "arrival rewards"). An episode's first frame has neither: zeros. Its last frame is terminal or is not.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from worldmodels.core.allocator import apart
from worldmodels.core.device import CPU
from worldmodels.core.errors import UserError
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.data.portions import Order, Portions, Table, on_device, take
from worldmodels.data.rollouts import Rollouts
from worldmodels.data.shard import Shard
from worldmodels.data.source import Batch, Source, made_up_steps

UNKNOWN = 0.1  # of a return, that may lie beyond where an episode was cut

Read = Callable[[Shard, slice], np.ndarray]
"""A shard, and which of its frames -> what a model is shown of them, one row per frame."""


@dataclass(frozen=True)
class Chunks:
    """Windows of `length` frames ("obs") or of their embeddings ("embed"), as `chunk_batches` yields them.

    It is one kind of what a model can want (data/source.py: Wanted).
    """

    of: Literal["obs", "embed"]
    length: int
    horizons: tuple[int, ...] = ()  # over which returns are to be told, too, in steps (`ahead`)

    @property
    def steps(self) -> int:
        """See Wanted."""
        return self.length

    def training(self, source: Source, skip: int = 0) -> Iterator[Batch]:
        """See Wanted."""
        return chunk_batches(
            source.rollouts,
            self.of,
            self._read(source),
            source.rows,
            self.length,
            source.buffer,
            source.order,
            skip,
            source.device,
            self.horizons,
        )

    def held_out(self, source: Source) -> Callable[[], Iterator[Batch]]:
        """See Wanted."""
        rows = max(1, source.checked // self.length)
        chunks = held_out_chunks(source.rollouts, self.of, self._read(source), rows, self.length, self.horizons)
        return functools.partial(iter, chunks)

    def made_up(self, rows: int, action_size: int, embed_size: int) -> Batch:
        """See Wanted."""
        if self.of == "obs":
            seen = torch.randint(256, (rows, self.length, *OBS_SHAPE), dtype=torch.uint8)
        else:
            seen = torch.randn(rows, self.length, embed_size).half()
        told = {"ahead": torch.rand(rows, self.length, len(self.horizons))} if self.horizons else {}
        return {self.of: seen} | made_up_steps(rows, self.length, action_size, "arrival_") | told

    def _read(self, source: Source) -> Read:
        return read_obs if self.of == "obs" else source.seen.read


def read_obs(shard: Shard, frames: slice) -> np.ndarray:
    """The frames themselves: a Read."""
    return shard.read("obs", frames.start, frames.stop)


def ahead(reward: np.ndarray, terminated: bool, horizons: Sequence[int]) -> np.ndarray:
    """What is still to be paid at each frame of an episode, over K horizons: float32 (T + 1, K).

    Over a horizon of H steps a reward that is k steps away counts by (1 - g) g^k, g = 1 - 1 / H, so that where all
    rewards are 1, a return is 1 far from the end and 0 at it. Of an episode that was cut, what lies beyond the cut is
    taken to be paid as what is known; where that is more than UNKNOWN of all, it is not a number.

    Args:
        reward: float32 (T,).
        terminated: whether the episode ended by itself.
        horizons: K of them, in steps.
    """
    g = 1 - 1 / np.array(horizons, np.float64)
    found = np.zeros((len(reward) + 1, len(g)))
    for t in reversed(range(len(reward))):
        found[t] = (1 - g) * reward[t] + g * found[t + 1]
    if not terminated:
        beyond = g ** np.arange(len(reward), -1, -1)[:, None]
        found = np.where(beyond > UNKNOWN, np.nan, found / (1 - np.minimum(beyond, UNKNOWN)))
    return found.astype(np.float32)


def arrivals(shard: Shard, episodes: range, horizons: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """What goes with each frame of some successive episodes of a shard, one row per frame.

    Returns:
        "arrival_action" float32 (N, A), "arrival_reward", "terminated", "is_first" float32 (N,), and with `horizons`
        "ahead" (N, K).
    """
    start = shard.obs_starts[episodes.start]
    stop = shard.obs_starts[episodes.stop]
    before = start - episodes.start  # an episode has one action less than frames
    action = shard.read("action", before, stop - episodes.stop)
    reward = shard.read("reward", before, stop - episodes.stop)
    firsts = shard.obs_starts[episodes.start : episodes.stop] - start
    lasts = shard.obs_starts[episodes.start + 1 : episodes.stop + 1] - start - 1
    is_first = np.zeros(stop - start, np.float32)
    is_first[firsts] = 1
    terminated = np.zeros(stop - start, np.float32)
    terminated[lasts] = shard.terminated[episodes.start : episodes.stop]
    led = {
        "arrival_action": np.zeros((stop - start, action.shape[1]), np.float32),
        "arrival_reward": np.zeros(stop - start, np.float32),
    }
    led["arrival_action"][is_first == 0] = action
    led["arrival_reward"][is_first == 0] = reward
    if horizons:
        lengths = shard.lengths[episodes.start : episodes.stop]
        ends = np.cumsum(lengths)
        ended = shard.terminated[episodes.start : episodes.stop]
        told = [ahead(reward[e - n : e], t, horizons) for e, n, t in zip(ends, lengths, ended, strict=True)]
        led["ahead"] = np.concatenate([np.zeros((0, len(horizons)), np.float32), *told])
    return led | {"terminated": terminated, "is_first": is_first}


def chunk_batches(
    rollouts: Rollouts,
    name: str,
    read: Read,
    rows: int,
    length: int,
    buffer: int,
    rng_of: Order,
    skip: int = 0,
    device: torch.device = CPU,
    horizons: tuple[int, ...] = (),
) -> Iterator[Table]:
    """Batches of windows from the training episodes, for ever, holding about `buffer` frames in memory.

    Every epoch cuts each portion of the data into windows at another offset and shuffles them. A window's first frame
    counts as the first of an episode, for no state is carried to it.

    Args:
        rollouts: where the episodes are.
        name: what to call what `read` gives ("obs" or "embed").
        read: see Read.
        rows, length: B and T of a batch; rows are lowered if there is too little data to fill one.
        buffer: frames in memory; never less than a shard nor a batch.
        rng_of: epoch -> numpy Generator.
        skip: batches to pass over (to resume).
        device: where frames lie, if there is room (data/portions.py).
        horizons: K, of `ahead`.

    Yields:
        `name` (B, T, ...), "arrival_action" (B, T, A), "arrival_reward", "terminated", "is_first" (B, T), and with
        `horizons` "ahead" (B, T, K).
    """
    sizes = rollouts.training_frames
    if sum(sizes) < 2 * length:
        raise UserError(f"--sequence-length {length} is too long for the {sum(sizes)} training frames there are")
    load = functools.partial(_table, name=name, read=read, held_out=False, horizons=horizons)
    portions = Portions(rollouts.shards, sizes, load, max(buffer, 2 * rows * length), device)

    def plan(portion: list[int], rng: np.random.Generator) -> list[np.ndarray]:
        return _cut(sum(sizes[i] for i in portion), rows, length, rng)

    for table, starts in portions.batches(plan, rng_of, skip):
        yield _windows(table, starts, length)


def _cut(total: int, rows: int, length: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Where the windows of each batch begin, (B,): `total` frames cut at a random offset, and shuffled."""
    starts = rng.permutation(np.arange(rng.integers(length), total - length + 1, length))
    each = min(rows, max(1, len(starts)))
    whole = len(starts) // each
    return list(starts[: whole * each].reshape(whole, each))


def held_out_chunks(
    rollouts: Rollouts, name: str, read: Read, rows: int, length: int, horizons: tuple[int, ...] = ()
) -> list[Table]:
    """One batch of windows, spread over the held-out episodes."""
    table = on_device(_table(rollouts.spread(rows), name, read, held_out=True, horizons=horizons))
    frames = len(table["is_first"])
    length = min(length, frames)
    last = frames - length
    starts = np.unique(np.linspace(0, last, rows).round().astype(int))
    return [_windows(table, starts, length)]


def _table(
    shards: list[Shard], name: str, read: Read, held_out: bool, horizons: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """All frames of the training episodes (or of the held-out ones) of some shards, end to end."""
    table: dict[str, np.ndarray] = {}
    chosen = [(shard, shard.split(held_out)) for shard in shards]
    total = sum(_length(_frames(shard, episodes)) for shard, episodes in chosen)
    at = 0
    for shard, episodes in chosen:
        frames = _frames(shard, episodes)
        rows = slice(at, at + _length(frames))
        columns = arrivals(shard, episodes, horizons) | {name: read(shard, frames)}
        for key, values in columns.items():
            if key not in table:
                table[key] = apart((total, *values.shape[1:]), values.dtype)
            table[key][rows] = values
        at = rows.stop
    return table


def _frames(shard: Shard, episodes: range) -> slice:
    """Where the frames of some successive episodes lie."""
    return slice(int(shard.obs_starts[episodes.start]), int(shard.obs_starts[episodes.stop]))


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)


def _windows(table: Table, starts: np.ndarray, length: int) -> Table:
    batch = take(table, starts[:, None] + np.arange(length))
    batch["is_first"][:, 0] = 1
    return batch
