"""Episodes on disk: an HDF5 shard of a few dozen, whole or absent.

A seal over all of it is verified when it is opened, and a checksum of every chunk when that is read (data/hdf5.py).
A shard holds its episodes end to end: `obs` has one row more per episode than `action` and `reward` (data/episode.py).
Many writers need no lock, since each writes files of its own; a kill loses at most the shard in hand.
The last episode of every shard is held out from training.
"""

import json
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import torch

from worldmodels.core import schema
from worldmodels.core.allocator import apart
from worldmodels.core.checkpoint import fingerprint, versions
from worldmodels.data import hdf5
from worldmodels.data.episode import OBS_SHAPE, Episode

FRAMES_PER_CHUNK = 32
LONGEST = 2**40  # steps of an episode; no sum of so many, in MOST episodes, overflows
MOST = 2**30  # episodes of a shard
SHARD = hdf5.Kind(
    noun="rollout shard",
    format="worldmodels-rollouts-1",
    attributes=("about",),
    datasets={
        "obs": ("uint8", (None, *OBS_SHAPE)),
        "action": ("float32", (None, None)),
        "reward": ("float32", (None,)),
        "length": ("int64", (None,)),
        "terminated": ("bool", (None,)),
        "truncated": ("bool", (None,)),
        "seed": ("int64", (None,)),
    },
    foreign="move it out of the rollouts folder",
    remedy="delete it and run 01_collect.py again to collect its episodes anew",
)
ABOUT = schema.fields(
    {
        "clips": schema.each(schema.text()),
        "videos": schema.text(4096),
        "failures": schema.each(schema.text(2000)),
        "patience": schema.whole(0),
        "levels": schema.each(schema.whole(0, 255), least=2),
        "round": schema.whole(1),
    },
    schema.anything,
    env=schema.text(),
    policy=schema.text(),
    seed=schema.whole(),
    max_steps=schema.whole(1),
    min_steps=schema.whole(0),
    shard_size=schema.whole(1),
    noise=schema.number(0),
    returns=schema.each(schema.number(), least=1),
    versions=schema.named(schema.text()),
)
"""What a shard says of its episodes, beside them; whoever packs one may add plain data of their own."""


@dataclass(frozen=True)
class Shard:
    """One shard file: its header in memory, its frames on disk until asked for."""

    path: Path
    attributes: dict[str, Any]
    lengths: np.ndarray  # int64 (E,), steps of each episode
    terminated: np.ndarray  # bool (E,)
    truncated: np.ndarray  # bool (E,)
    seeds: np.ndarray  # int64 (E,)

    @cached_property
    def obs_starts(self) -> np.ndarray:
        """int64 (E+1,): where each episode's observations begin, and where all end."""
        return np.concatenate([[0], np.cumsum(self.lengths + 1)])

    def split(self, held_out: bool) -> range:
        """Numbers of the episodes that are held out from training (the last one), or of those to train on."""
        count = len(self.lengths)
        return range(count - 1, count) if held_out else range(count - 1)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the episodes: who played them, from which seeds, for how long."""
        played = json.dumps([self.attributes.get(name) for name in ("env", "policy", "noise", "seed")])
        return fingerprint(
            {
                "lengths": torch.from_numpy(self.lengths),
                "seeds": torch.from_numpy(self.seeds),
                played: torch.zeros(0),
            }
        )

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start:stop` of the dataset `name` ("obs", "action" or "reward")."""
        with hdf5.opened(self.path, SHARD) as file:
            rows = _read_apart(file[name], start, stop)
        if name == "reward" and not np.isfinite(rows).all():
            raise SHARD.damaged(self.path, "a reward is not finite")
        if name == "action" and not (np.abs(rows) <= 1).all():
            raise SHARD.damaged(self.path, "an action lies outside of [-1, 1]")
        return rows

    def episode(self, index: int) -> Episode:
        """The episode number `index` (negative counts from the end)."""
        index %= len(self.lengths)
        steps = int(self.lengths[index])
        start = int(self.obs_starts[index])
        action_start = start - index  # each earlier episode has one observation more than actions
        return Episode(
            obs=self.read("obs", start, start + steps + 1),
            action=self.read("action", action_start, action_start + steps),
            reward=self.read("reward", action_start, action_start + steps),
            terminated=bool(self.terminated[index]),
            truncated=bool(self.truncated[index]),
            seed=int(self.seeds[index]),
        )


def pack_shard(episodes: Iterable[Episode], attributes: dict[str, Any]) -> bytes:
    """A shard file of `episodes`. A thread compresses each while the next is being played.

    Args:
        episodes: at least one; asked for one at a time, and let go once compressed.
        attributes: plain data for the record (ABOUT); read once all episodes have come. The returns, the darkest and
            brightest value of all frames, and the versions are added.

    Raises:
        ValueError: if there is no episode.
    """
    return hdf5.pack(SHARD, lambda file: _fill(file, episodes, attributes))


def _fill(file: h5py.File, episodes: Iterable[Episode], attributes: dict[str, Any]) -> None:
    returns = list[float]()
    appended = deque[Future[tuple[int, int]]]()
    levels = list[tuple[int, int]]()  # the darkest and the brightest value of each episode
    columns: dict[str, list[np.ndarray]] = {}
    with ThreadPoolExecutor(1) as beside:
        obs = file.create_dataset(
            "obs",
            (0, *OBS_SHAPE),
            np.uint8,
            maxshape=(None, *OBS_SHAPE),
            chunks=(FRAMES_PER_CHUNK, *OBS_SHAPE),
            compression=hdf5plugin.Zstd(clevel=1),
            fletcher32=True,
        )
        for episode in episodes:
            while appended and appended[0].done():
                levels.append(appended.popleft().result())
            appended.append(beside.submit(_append, obs, episode.obs))
            returns.append(episode.episode_return)
            for name, values in _row(episode).items():
                columns.setdefault(name, []).append(values)
        if not returns:
            raise ValueError("a shard holds at least one episode")
        levels += [job.result() for job in appended]
    for name, parts in columns.items():
        whole = np.concatenate(parts)
        file.create_dataset(name, data=whole, chunks=whole.shape, fletcher32=True)
    span = [min(low for low, _ in levels), max(high for _, high in levels)]
    file.attrs["about"] = json.dumps(attributes | {"returns": returns, "levels": span, "versions": versions()})


def _read_apart(dataset: h5py.Dataset, start: int, stop: int | None) -> np.ndarray:
    rows = range(len(dataset))[start:stop]
    read = apart((len(rows), *dataset.shape[1:]), dataset.dtype)
    if rows:
        dataset.read_direct(read, np.s_[rows.start : rows.stop])
    return read


def _append(obs: h5py.Dataset, frames: np.ndarray) -> tuple[int, int]:
    obs.resize(len(obs) + len(frames), 0)
    obs[-len(frames) :] = frames
    return int(frames.min()), int(frames.max())


def _row(episode: Episode) -> dict[str, np.ndarray]:
    """What a shard says of an episode beside its frames."""
    return {
        "length": np.array([len(episode)], np.int64),
        "terminated": np.array([episode.terminated], bool),
        "truncated": np.array([episode.truncated], bool),
        "seed": np.array([episode.seed], np.int64),
        "action": episode.action,
        "reward": episode.reward,
    }


def open_shard(path: Path) -> Shard:
    """Reads a shard's header.

    Raises:
        UserError: naming the file, if it cannot be read, is damaged, or is not a shard of ours.
    """
    with hdf5.opened(path, SHARD) as file:
        text = file.attrs["about"]
        shard = Shard(path, {}, *(file[name][:] for name in ("length", "terminated", "truncated", "seed")))
        sizes = {name: len(file[name]) for name in ("obs", "action", "reward")}
    try:
        about = schema.parse(text)
    except schema.Wrong as wrong:
        raise SHARD.damaged(path, f"what it says of itself is unreadable: {wrong}") from wrong
    schema.check(about, ABOUT, path)
    if why := _contradiction(shard, sizes, about["returns"]):
        raise SHARD.damaged(path, why)
    shard.attributes.update(about)
    return shard


def _contradiction(shard: Shard, sizes: dict[str, int], returns: list[float]) -> str:
    """What in a shard's header cannot be, or does not go with the rest: "" if all is well."""
    lengths = shard.lengths
    ends = (shard.terminated, shard.truncated, shard.seeds, returns)
    if not 1 <= len(lengths) <= MOST or any(len(lengths) != len(each) for each in ends):
        return "its episodes are of another number than what it says of them"
    if not ((lengths >= 1) & (lengths <= LONGEST // len(lengths))).all():
        return "an episode has a length that cannot be"
    if (shard.terminated & shard.truncated).any():
        return "an episode is both terminated and truncated"
    frames = int(shard.obs_starts[-1])
    steps = int(lengths.sum())
    asked = {"obs": frames, "action": steps, "reward": steps}
    if wrong := [name for name in asked if sizes[name] != asked[name]]:
        return f"{sizes[wrong[0]]} rows of {wrong[0]} where {asked[wrong[0]]} are announced"
    return ""
