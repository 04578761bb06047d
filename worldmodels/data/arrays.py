"""Recordings as plain arrays: those of an .npz file, and datasets of an .h5 file. Nothing is unpickled."""

import functools
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path

import h5py
import numpy as np

from worldmodels.core.errors import UserError
from worldmodels.data.recorded import NAMES, NEEDED, Recording, Small


def npz(file: Path, raw: FileIO, typed: Mapping[str, str], small: Small) -> Iterator[Recording]:
    """The recording of an .npz file."""
    keys = {name: name for name in NAMES} | dict(typed)
    found = np.load(raw, allow_pickle=False)
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise ValueError("it is no archive of arrays")
    with found as held:
        if not all(keys[name] in held for name in NEEDED):
            raise lacking(file, keys)
        yield Recording(
            str(file), {name: functools.partial(held.__getitem__, key) for name, key in keys.items() if key in held}
        )


def hdf5(file: Path, raw: FileIO, typed: Mapping[str, str], small: Small) -> Iterator[Recording]:
    """The recordings of an .h5 file: each group that holds what is needed is one."""
    keys = {name: name for name in NAMES} | dict(typed)
    there = 0
    with h5py.File(raw, "r") as held:
        for group in groups(held):
            found = {name: dataset(group, key) for name, key in keys.items()}
            plain = {name: one for name, one in found.items() if one is not None and one.dtype.kind in "buif"}
            if set(NEEDED) <= set(plain):
                there += 1
                where = f"{file}" if group.name == "/" else f"{file}: {group.name}"
                yield Recording(where, {name: functools.partial(one.__getitem__, ()) for name, one in plain.items()})
    if not there:
        raise lacking(file, keys)


def lacking(file: Path, keys: Mapping[str, str]) -> UserError:
    """The error to raise about a file without what is needed."""
    wanted = " and ".join(keys[name] for name in NEEDED)
    return UserError(f"{file} holds no arrays {wanted}; say what they are called: --keys obs=... action=...")


def groups(group: h5py.Group) -> Iterator[h5py.Group]:
    """The group, and all in it; no link is followed."""
    yield group
    for name in group:
        if isinstance(found := inside(group, name), h5py.Group):
            yield from groups(found)


def dataset(group: h5py.Group, key: str) -> h5py.Dataset | None:
    """The dataset that lies there, in this very file; None if there is none."""
    found = inside(group, key)
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        return None
    return found


def inside(group: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """What lies in `group` by the name `key`, perhaps a path; no link is followed."""
    found = group
    for name in key.split("/"):
        if not isinstance(found, h5py.Group) or not isinstance(found.get(name, getlink=True), h5py.HardLink):
            return None
        found = found[name]
    return found
