"""Embeddings cut into the sequences that M learns from, its state carried on from batch to batch."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodels.core.allocator import apart
from worldmodels.core.device import CPU
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.data.portions import Order, Portions, Table, on_device, take
from worldmodels.data.shard import Shard
from worldmodels.data.source import Batch, Source, made_up_steps


@dataclass(frozen=True)
class Sequences:
    """Embeddings of `length` steps, in rows that go on from batch to batch, as `sequence_batches` yields them.

    It is one kind of what a model can want (data/source.py: Wanted).
    """

    length: int

    @property
    def steps(self) -> int:
        """See Wanted."""
        return self.length

    def training(self, source: Source, skip: int = 0) -> Iterator[Batch]:
        """See Wanted."""
        return sequence_batches(
            source.seen,
            source.rows,
            self.length,
            source.buffer,
            source.order,
            skip,
            source.device,
        )

    def held_out(self, source: Source) -> Callable[[], Iterator[Batch]]:
        """See Wanted: here whole episodes, all of them side by side."""
        episodes = source.seen.held_out()
        return functools.partial(in_order, episodes, len(episodes), self.length)

    def made_up(self, rows: int, action_size: int, embed_size: int) -> Batch:
        """See Wanted."""
        embeds = {name: torch.randn(rows, self.length, embed_size).half() for name in ("embed", "next_embed")}
        return embeds | made_up_steps(rows, self.length, action_size)


class Piece(NamedTuple):
    """Which steps make a batch."""

    steps: np.ndarray  # (B, T)
    fresh: bool  # whether its rows begin here; else they go on from the piece before


def sequence_batches(
    embeddings: Embeddings,
    rows: int,
    length: int,
    buffer: int,
    rng_of: Order,
    skip: int = 0,
    device: torch.device = CPU,
) -> Iterator[dict[str, Any]]:
    """Batches of sequences, for ever, holding the embeddings of about `buffer` steps in memory.

    Every epoch strings the episodes of `buffer` steps' worth of shards together in another order and cuts the
    string into `rows` long rows; successive batches are successive pieces of those rows, so that the state after one
    batch is the state before the next (CLASSIC 2.5). A batch that begins new rows says so: "fresh".

    Args:
        embeddings: of the rollouts.
        rows, length: B and T of a batch; both are lowered if there is too little data to fill one.
        buffer: steps in memory; never less than a shard nor a batch.
        rng_of: epoch -> numpy Generator.
        skip: batches to pass over (to resume).
        device: where embeddings lie, if there is room (data/portions.py).

    Yields:
        "embed" and "next_embed" (B, T, E), what was seen before and after each step; "action" (B, T, A), taken there;
        "reward" (B, T), paid for it; "terminated" and "is_first" (B, T), whether it was the last or the first of an
        episode; "fresh" (bool).
    """
    shards = embeddings.rollouts.shards
    sizes = [int(shard.lengths[:-1].sum()) for shard in shards]

    def load(some: list[Shard]) -> dict[str, np.ndarray]:
        return end_to_end([episode for shard in some for episode in embeddings.episodes(shard)])

    def plan(portion: list[int], rng: np.random.Generator) -> list[Piece]:
        return _cut(np.concatenate([shards[i].lengths[:-1] for i in portion]), rows, length, rng)

    portions = Portions(shards, sizes, load, max(buffer, 2 * rows * length), device)
    for columns, piece in portions.batches(plan, rng_of, skip):
        yield _batch(columns, piece)


def _cut(lengths: np.ndarray, rows: int, length: int, rng: np.random.Generator) -> list[Piece]:
    """Episodes of `lengths` steps, which lie end to end, strung together in random order and cut up."""
    starts = np.cumsum([0, *lengths[:-1]])
    order = rng.permutation(len(lengths))
    return _pieces(lengths[order], starts[order], rows, length)


def end_to_end(episodes: list[EmbeddedEpisode]) -> dict[str, np.ndarray]:
    """Episodes as columns: "embed" has a row per frame, all else a row per step, "frame" says where its frame is."""
    steps = [len(e.action) for e in episodes]
    frames = np.cumsum([0, *(len(e.embed) for e in episodes[:-1])])
    return {
        "embed": _joined([e.embed for e in episodes]),
        "action": _joined([e.action for e in episodes]),
        "reward": _joined([e.reward for e in episodes]),
        "terminated": _joined([_only(-1, e.terminated, n) for e, n in zip(episodes, steps, strict=True)]),
        "is_first": _joined([_only(0, True, n) for n in steps]),
        "frame": _joined([np.arange(n) + at for n, at in zip(steps, frames, strict=True)]),
    }


def in_order(episodes: list[EmbeddedEpisode], rows: int, length: int) -> Iterator[dict[str, Any]]:
    """The same batches of the episodes as they come, once."""
    columns = on_device(end_to_end(episodes))
    lengths = np.array([len(episode.action) for episode in episodes])
    for piece in _pieces(lengths, np.cumsum(lengths) - lengths, rows, length):
        yield _batch(columns, piece)


def _pieces(lengths: np.ndarray, starts: np.ndarray, rows: int, length: int) -> list[Piece]:
    """Episodes of `lengths` steps, each from step number `starts`, strung together in that order and cut up."""
    if not len(lengths):  # shards of one episode each, which is held out
        return []
    string = np.concatenate([np.arange(n) + start for n, start in zip(lengths, starts, strict=True)])
    length = min(length, len(string))
    rows = min(rows, len(string) // length)
    count = len(string) // (rows * length)
    table = string[: rows * length * count].reshape(rows, count, length)
    return [Piece(table[:, i], i == 0) for i in range(count)]


def _batch(columns: Table, piece: Piece) -> dict[str, Any]:
    steps = {name: values for name, values in columns.items() if name != "embed"}
    batch: dict[str, Any] = take(steps, piece.steps)
    frame = batch.pop("frame")
    embed = columns["embed"]
    return batch | {"embed": embed[frame], "next_embed": embed[frame + 1], "fresh": piece.fresh}


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    whole = apart((sum(len(part) for part in parts), *parts[0].shape[1:]), parts[0].dtype)
    return np.concatenate(parts, out=whole)


def _only(index: int, value: bool, size: int) -> np.ndarray:
    flags = np.zeros(size, np.float32)
    flags[index] = value
    return flags
