"""What V makes of every frame, written once beside the rollouts, and cut into the sequences that M learns from.

The folder data/<env>/codes/<fingerprint of V>/ holds one file per shard: `embed` float16 (N, E), a row per frame.
It has its name from what M draws from them: codes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodels.core import progress
from worldmodels.core.checkpoint import fingerprint
from worldmodels.core.device import autocast
from worldmodels.core.errors import UserError
from worldmodels.core.files import write_bytes
from worldmodels.data import hdf5
from worldmodels.data.rollouts import Rollouts
from worldmodels.data.shard import Shard

EMBEDDINGS = hdf5.Kind(
    noun="file of codes",
    format="worldmodels-codes-1",
    attributes=("rollouts",),
    datasets={"embed": ("float16", (None, None))},
    foreign="move it out of the codes folder",
    remedy="delete it and run 02_train_vision.py again",
)
ENCODE_BATCH = 512  # frames
MULTIPLE = 64  # frames


class EmbeddedEpisode(NamedTuple):
    """An episode as M sees it."""

    embed: np.ndarray  # float16 (T+1, E)
    action: np.ndarray  # float32 (T, A)
    reward: np.ndarray  # float32 (T,)
    terminated: bool


class Embeddings:
    """The embeddings of all rollouts, as one V makes them.

    Args:
        folder: data/<env>/codes.
        rollouts: what was encoded.
        vision: its fingerprint chooses the folder in that.
    """

    def __init__(self, folder: Path, rollouts: Rollouts, vision: torch.nn.Module) -> None:
        self.rollouts = rollouts
        self.vision_fingerprint = fingerprint(vision.state_dict())
        self.folder = folder / self.vision_fingerprint
        self._embed_size = int(vision.embed_size)  # type: ignore[arg-type]

    def write(self, vision: Any, device: torch.device, precision: str) -> None:
        """Encodes every shard that has no embeddings yet."""
        missing = [shard for shard in self.rollouts.shards if not self._is_there(shard)]
        frames = sum(int(shard.obs_starts[-1]) for shard in missing)
        with progress.bar(total=frames, unit="frame", unit_scale=True, desc="encode", disable=not missing) as bar:
            for shard in missing:
                parts = []
                for part in _encoded(vision, shard.read("obs"), device, precision):
                    parts.append(part)
                    bar.update(len(part))
                write_bytes(self._path(shard), hdf5.pack(EMBEDDINGS, packed(np.concatenate(parts), shard)))

    def read(self, shard: Shard, frames: slice) -> np.ndarray:
        """Embeddings float16 (N, E) of some frames of a shard.

        Raises:
            UserError: if the shard has none of this V, or they cannot be read or are damaged.
        """
        if not self._is_there(shard):
            raise UserError(f"{self.folder} lacks codes of {shard.path.name}; run pipelines/02_train_vision.py again")
        with hdf5.opened(self._path(shard), EMBEDDINGS) as file:
            embed: np.ndarray = file["embed"][frames]
        if not np.isfinite(embed).all():
            raise EMBEDDINGS.damaged(self._path(shard), "a code is not finite")
        return embed

    def episodes(self, shard: Shard, held_out: bool = False) -> list[EmbeddedEpisode]:
        """The training episodes of a shard, or the one that is held out."""
        embed = self.read(shard, slice(None))
        action = shard.read("action")
        reward = shard.read("reward")
        episodes = []
        for index in shard.split(held_out):
            start = int(shard.obs_starts[index])
            steps = int(shard.lengths[index])
            acts = slice(start - index, start - index + steps)  # each earlier episode has one action less than frames
            episodes.append(
                EmbeddedEpisode(
                    embed=embed[start : start + steps + 1],
                    action=action[acts],
                    reward=reward[acts],
                    terminated=bool(shard.terminated[index]),
                )
            )
        return episodes

    def held_out(self, limit: int = 64) -> list[EmbeddedEpisode]:
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
        """Whether there is a file of these very episodes; that of others is written anew."""
        path = self._path(shard)
        if not path.exists():
            return False
        with hdf5.opened(path, EMBEDDINGS) as file:
            of = str(file.attrs["rollouts"])
            shape = file["embed"].shape
        if of != shard.fingerprint:
            return False
        frames = int(shard.obs_starts[-1])
        if shape != (frames, self._embed_size):
            raise EMBEDDINGS.damaged(path, f"its codes are {shape}, not {frames} of {self._embed_size} numbers")
        return True


def packed(embed: np.ndarray, shard: Shard) -> Callable[[Any], None]:
    """What puts the embeddings `embed` (N, E) of a shard's frames into a file."""

    def fill(file: Any) -> None:
        rows = (min(ENCODE_BATCH, len(embed)), embed.shape[1])
        file.create_dataset("embed", data=embed, chunks=rows, fletcher32=True)
        file.attrs["rollouts"] = shard.fingerprint

    return fill


def _encoded(vision: Any, obs: np.ndarray, device: torch.device, precision: str) -> Iterator[np.ndarray]:
    """Embeddings float16 (up to ENCODE_BATCH, E) of frames, batch by batch."""
    for start in range(0, len(obs), ENCODE_BATCH):
        frames = obs[start : start + ENCODE_BATCH]
        with torch.no_grad(), autocast(device, precision):
            embed = vision.encode(torch.from_numpy(_filled(frames)).to(device))
        yield embed[: len(frames)].cpu().half().numpy()


def _filled(frames: np.ndarray) -> np.ndarray:
    """Frames, the last one repeated up to a MULTIPLE: for every size that it meets, oneDNN keeps memory."""
    missing = -len(frames) % MULTIPLE
    return np.concatenate([frames, frames[-1:].repeat(missing, 0)]) if missing else frames
