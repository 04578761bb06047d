"""What V makes of every frame, written once beside the rollouts, and cut into the sequences that M learns from.

data/<env>/codes/<fingerprint of V>/ holds one file per shard: `embed` float16 (N, E), a row per frame.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from tqdm import tqdm

from worldmodels.checkpoint import fingerprint
from worldmodels.errors import UserError
from worldmodels.models.base import autocast
from worldmodels.pools import CPU, Pools, Table, on_device, take
from worldmodels.store import Rollouts, Shard, whole_hdf5

FORMAT = "worldmodels-codes-1"
ENCODE_BATCH, MULTIPLE = 512, 64  # frames


class EpisodeCodes(NamedTuple):
    """An episode as M sees it."""

    embed: np.ndarray  # float16 (T+1, E)
    action: np.ndarray  # float32 (T, A)
    reward: np.ndarray  # float32 (T,)
    terminated: bool


class Codes:
    """The codes of all rollouts under one V.

    Args:
        folder: data/<env>/codes.
        rollouts: what was encoded.
        vision: its fingerprint chooses the codes.
    """

    def __init__(self, folder: Path, rollouts: Rollouts, vision: torch.nn.Module) -> None:
        self.rollouts, self.vision_fingerprint = rollouts, fingerprint(vision.state_dict())
        self.folder = folder / self.vision_fingerprint

    def write(self, vision: Any, device: torch.device, precision: str) -> None:
        """Encodes every shard that has no codes yet."""
        missing = [shard for shard in self.rollouts.shards if not self._is_there(shard)]
        frames = sum(int(shard.obs_starts[-1]) for shard in missing)
        with tqdm(total=frames, unit="frame", unit_scale=True, desc="encode", disable=not missing) as bar:
            for shard in missing:
                embed, obs = [], shard.read("obs")
                for start in range(0, len(obs), ENCODE_BATCH):
                    part = obs[start : start + ENCODE_BATCH]
                    with torch.no_grad(), autocast(device, precision):
                        seen = vision.encode(torch.from_numpy(_filled(part)).to(device))
                    embed.append(seen[: len(part)].cpu().half().numpy())
                    bar.update(len(part))
                with whole_hdf5(self._path(shard)) as file:
                    file.attrs.update(format=FORMAT, rollouts=shard.fingerprint)
                    rows = (min(ENCODE_BATCH, len(obs)), embed[0].shape[1])
                    file.create_dataset("embed", data=np.concatenate(embed), chunks=rows, fletcher32=True)

    def read(self, shard: Shard, frames: slice) -> np.ndarray:
        """Codes float16 (N, E) of some frames of a shard.

        Raises:
            UserError: if the shard has no codes of this V.
        """
        if not self._is_there(shard):
            raise UserError(f"{self.folder} lacks codes of {shard.path.name}; run pipelines/02_train_vision.py again")
        try:
            with h5py.File(self._path(shard)) as file:
                return file["embed"][frames]
        except (OSError, KeyError) as error:
            raise self._damaged(shard, error) from error

    def episodes(self, shard: Shard, held_out: bool = False) -> list[EpisodeCodes]:
        """The training episodes of a shard, or the one that is held out."""
        embed = self.read(shard, slice(None))
        action, reward = shard.read("action"), shard.read("reward")
        episodes = []
        for index in shard.split(held_out):
            start, steps = int(shard.obs_starts[index]), int(shard.lengths[index])
            acts = slice(start - index, start - index + steps)
            ended = bool(shard.terminated[index])
            episodes.append(EpisodeCodes(embed[start : start + steps + 1], action[acts], reward[acts], ended))
        return episodes

    def held_out(self, limit: int = 64) -> list[EpisodeCodes]:
        """Up to `limit` held-out episodes, from shards spread evenly over all."""
        return [e for shard in self.rollouts.spread(limit) for e in self.episodes(shard, held_out=True)]

    def starts(self, limit: int = 1000) -> torch.Tensor:
        """float32 (S, E): the first embeddings of up to `limit` training episodes, where dreams begin."""
        found: list[np.ndarray] = []
        for shard in self.rollouts.shards:
            found += [episode.embed[0] for episode in self.episodes(shard)]
            if len(found) >= limit:
                break
        return torch.from_numpy(np.stack(found[:limit])).float()

    def _path(self, shard: Shard) -> Path:
        return self.folder / shard.path.name

    def _is_there(self, shard: Shard) -> bool:
        path = self._path(shard)
        if not path.exists():
            return False
        try:
            with h5py.File(path) as file:
                return file.attrs.get("format") == FORMAT and file.attrs["rollouts"] == shard.fingerprint
        except OSError as error:
            raise self._damaged(shard, error) from error

    def _damaged(self, shard: Shard, why: object) -> UserError:
        return UserError(f"{self._path(shard)} is damaged ({why}); delete it and run 02_train_vision.py again")


def sequence_batches(
    codes: Codes, rows: int, length: int, buffer: int, rng_of: Any, skip: int = 0, device: torch.device = CPU
) -> Iterator[dict[str, Any]]:
    """Batches of sequences, for ever, holding the codes of about `buffer` steps in memory.

    Every epoch strings the episodes of `buffer` steps' worth of shards together in another order and cuts the
    string into `rows` long rows; successive batches are successive pieces of those rows, so that the state after one
    batch is the state before the next (CLASSIC 2.5). A batch that begins new rows says so: "fresh".

    Args:
        codes: of the rollouts.
        rows, length: B and T of a batch; both are lowered if there is too little data to fill one.
        buffer: steps in memory; never less than a shard nor a batch.
        rng_of: epoch -> numpy Generator.
        skip: batches to pass over (to resume).
        device: where codes lie, if there is room (pools.py).
    """
    shards = codes.rollouts.shards
    load = lambda some: end_to_end([episode for shard in some for episode in codes.episodes(shard)])  # noqa: E731
    sizes = [int(shard.lengths[:-1].sum()) for shard in shards]
    pools = Pools(shards, sizes, load, max(buffer, 2 * rows * length), device)

    def plan(pool: list[int], rng: np.random.Generator) -> list[Piece]:
        lengths = np.concatenate([shards[i].lengths[:-1] for i in pool])
        order = rng.permutation(len(lengths))
        return _pieces(lengths[order], np.cumsum([0, *lengths[:-1]])[order], rows, length)

    for columns, piece in pools.batches(plan, rng_of, skip):
        yield _batch(columns, piece)


def end_to_end(episodes: list[EpisodeCodes]) -> dict[str, np.ndarray]:
    """Episodes as columns: "embed" has a row per frame, all else a row per step, "frame" says where its frame is."""
    steps = [len(e.action) for e in episodes]
    frames = np.cumsum([0, *(len(e.embed) for e in episodes[:-1])])
    return {
        "embed": np.concatenate([e.embed for e in episodes]),
        "action": np.concatenate([e.action for e in episodes]),
        "reward": np.concatenate([e.reward for e in episodes]),
        "terminated": np.concatenate([_only(-1, e.terminated, n) for e, n in zip(episodes, steps, strict=True)]),
        "is_first": np.concatenate([_only(0, True, n) for n in steps]),
        "frame": np.concatenate([np.arange(n) + at for n, at in zip(steps, frames, strict=True)]),
    }


def in_order(episodes: list[EpisodeCodes], rows: int, length: int) -> Iterator[dict[str, Any]]:
    """The same batches of the episodes as they come, once."""
    columns = on_device(end_to_end(episodes))
    lengths = np.array([len(episode.action) for episode in episodes])
    for piece in _pieces(lengths, np.cumsum(lengths) - lengths, rows, length):
        yield _batch(columns, piece)


class Piece(NamedTuple):
    """Which steps make a batch."""

    steps: np.ndarray  # (B, T)
    fresh: bool  # whether its rows begin here; else they go on from the piece before


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
    frame, embed = batch.pop("frame"), columns["embed"]
    return batch | {"embed": embed[frame], "next_embed": embed[frame + 1], "fresh": piece.fresh}


def _filled(frames: np.ndarray) -> np.ndarray:
    """Frames, the last one repeated up to a MULTIPLE: for every size that it meets, oneDNN keeps memory."""
    missing = -len(frames) % MULTIPLE
    return np.concatenate([frames, frames[-1:].repeat(missing, 0)]) if missing else frames


def _only(index: int, value: bool, size: int) -> np.ndarray:
    flags = np.zeros(size, np.float32)
    flags[index] = value
    return flags
