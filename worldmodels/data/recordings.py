"""Episodes that others recorded, as their files have them: arrays of .npz files, datasets of .h5 files.

A file, or a group of an .h5 file, holds one episode, or several end to end. Nothing is unpickled.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from worldmodels.core import files
from worldmodels.core.errors import UserError

NAMES = ("obs", "action", "reward", "terminated", "truncated")
NEEDED = ("obs", "action")
SUFFIXES = (".npz", ".h5", ".hdf5")
Arrays = dict[str, np.ndarray]
"""What was recorded, by NAMES; only what there is."""


class Recorded(NamedTuple):
    """One episode of T steps, its pictures and actions still of any kind."""

    where: str  # file, and what of it
    obs: np.ndarray  # (T+1, ...)
    action: np.ndarray  # (T, ...)
    reward: np.ndarray  # float32 (T,)
    terminated: bool


def recordings(path: Path, keys: Mapping[str, str]) -> Iterator[tuple[str, Arrays]]:
    """All that lies in a file, or in a folder and its sub-folders: where, and what.

    Args:
        path: to them.
        keys: one of NAMES -> what their files call it.

    Raises:
        UserError: if there is none, or one cannot be read or lacks what is needed; the message names it.
    """
    found = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES)
    if not found:
        raise UserError(f"--from {path} holds no {', '.join(SUFFIXES)}")
    for file in found:
        read = _npz if file.suffix == ".npz" else _hdf5
        try:
            with files.opened(file) as raw:
                there = 0
                for where, arrays in read(raw, keys):
                    there += 1
                    yield f"{file}{where}", arrays
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{file} cannot be read ({error})") from error
        if not there:
            wanted = " and ".join(keys[name] for name in NEEDED)
            raise UserError(f"{file} holds no arrays {wanted}; say what they are called: --keys obs=... action=...")


def _npz(raw: FileIO, keys: Mapping[str, str]) -> Iterator[tuple[str, Arrays]]:
    found = np.load(raw, allow_pickle=False)
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise ValueError("it is no archive of arrays")
    with found as file:
        if all(keys[name] in file for name in NEEDED):
            yield "", {name: file[key] for name, key in keys.items() if key in file}


def _hdf5(raw: FileIO, keys: Mapping[str, str]) -> Iterator[tuple[str, Arrays]]:
    with h5py.File(raw, "r") as file:
        for group in _groups(file):
            if all(_is_plain(group, keys[name]) for name in NEEDED):
                told = {name: group[key][()] for name, key in keys.items() if _is_plain(group, key)}
                yield ("" if group.name == "/" else f": {group.name}"), told


def _groups(group: h5py.Group) -> Iterator[h5py.Group]:
    """The group, and all in it; no link is followed."""
    yield group
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink) and isinstance(group[name], h5py.Group):
            yield from _groups(group[name])


def _is_plain(group: h5py.Group, key: str) -> bool:
    """Whether a dataset of numbers lies there, in this very file."""
    link = group.get(key, getlink=True) if key in group else None
    if not isinstance(link, h5py.HardLink) or not isinstance(group[key], h5py.Dataset):
        return False
    return group[key].dtype.kind in "buif" and not (group[key].is_virtual or group[key].external)


def episodes(where: str, arrays: Arrays) -> list[Recorded]:
    """The episodes that arrays hold.

    Where they have as many pictures as actions, none shows what the last action led to. An episode that terminated
    shows its last picture once more, as Doom does; another ends a step earlier.

    Raises:
        UserError: if their lengths do not go together.
    """
    steps = len(arrays["action"])
    reward = np.ravel(arrays.get("reward", np.zeros(steps))).astype(np.float32)
    terminated, truncated = (
        np.ravel(arrays.get(name, np.zeros(steps))).astype(bool) for name in ("terminated", "truncated")
    )
    lengths = {name: len(part) for name, part in arrays.items() if name != "obs" and len(np.ravel(part)) != 1}
    if len({*lengths.values(), steps}) > 1 or not steps:
        told = ", ".join(f"{count} of {name}" for name, count in lengths.items())
        raise UserError(f"{where}: {told}; as many of each are needed")
    more = len(arrays["obs"]) - steps
    terminated, truncated = (_at_the_end(part, steps) for part in (terminated, truncated))
    ends = np.flatnonzero(terminated | truncated)
    if more not in (0, 1) or (more and len(ends) and ends[0] < steps - 1):
        raise UserError(f"{where}: {len(arrays['obs'])} of obs and {steps} of action, which end {len(ends)} episodes")
    found = list[Recorded]()
    start = 0
    for stop in [*(ends[ends < steps - 1] + 1), steps]:
        died = bool(terminated[stop - 1])
        obs = arrays["obs"][start : stop + more]
        last = stop
        if not more and died:
            obs = np.concatenate([obs, obs[-1:]])
        elif not more:
            last = stop - 1
        if last > start:
            found.append(Recorded(where, obs, arrays["action"][start:last], reward[start:last], died))
        start = stop
    return found


def _at_the_end(told: np.ndarray, steps: int) -> np.ndarray:
    """One value for an episode is that of its last step."""
    if len(told) == 1 != steps:
        return np.append(np.zeros(steps - 1, bool), told)
    return told
