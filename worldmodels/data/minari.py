"""Minari's datasets of episodes, as version 0.5 lays them out in HDF5 (minari.farama.org, "Dataset Standards").

    DATASET/data/main_data.hdf5   a group episode_N for each: observations (T+1, ...), actions, rewards, terminations,
                                  truncations (T, ...)
    DATASET/data/metadata.json    what an action may be, among others

Pictures lie there as they are or, from 32 pixels on and if metadata.json says jpeg_encoding, as a JPEG each.
Observations that are a dict are a group, and one of it is chosen by its path: observations/pixels.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces

from worldmodels.core import schema
from worldmodels.core.errors import UserError
from worldmodels.data.arrays import dataset, inside, lacking
from worldmodels.data.recorded import NEEDED, Recording, Small, unpacked

FILE = "main_data.hdf5"
KEYS = {
    "obs": "observations",
    "action": "actions",
    "reward": "rewards",
    "terminated": "terminations",
    "truncated": "truncations",
}
MOST = 1 << 28  # bytes of metadata.json: the bounds of every pixel stand in it
HOLDS = schema.fields(_others=schema.anything, action_space=schema.text(MOST))
NUMBERS = schema.any_of(schema.number(finite=False), schema.each(schema.anything, least=1))
SPACES: dict[str, schema.Check] = {
    "Box": schema.fields(_others=schema.anything, low=NUMBERS, high=NUMBERS),
    "Discrete": schema.fields(_others=schema.anything, n=schema.whole(1, 999), start=schema.whole()),
    "MultiBinary": schema.fields(_others=schema.anything, n=schema.whole(1, 999)),
}
"""What the actions may be that can be taken, and what is said of them."""


def minari(file: Path, raw: FileIO, typed: Mapping[str, str], small: Small) -> Iterator[Recording]:
    """The episodes of a Minari dataset."""
    keys = KEYS | dict(typed)
    actions = _actions(file.with_name("metadata.json"))
    there = 0
    with h5py.File(raw, "r") as held:
        for name in sorted(held, key=lambda name: (len(name), name)):
            group = inside(held, name)
            if not (name.startswith("episode_") and isinstance(group, h5py.Group)):
                continue
            there += 1
            where = f"{file}: {name}"
            found = {name: dataset(group, key) for name, key in keys.items()}
            parts = {name: _loader(name, one, small) for name, one in found.items() if one is not None}
            if not set(NEEDED) <= set(parts):
                raise _lacking(where, group, keys)
            yield Recording(where, parts, actions)
    if not there:
        raise lacking(file, keys)


def _loader(name: str, found: h5py.Dataset, small: Small) -> Callable[[], np.ndarray]:
    packed = h5py.check_vlen_dtype(found.dtype) == np.uint8 or (found.dtype == np.uint8 and found.ndim == 2)
    if name == "obs" and packed:
        return functools.partial(unpacked, found, small)
    if found.dtype.kind not in "buif":
        raise ValueError(f"{found.name} is of {found.dtype}, which are no numbers")
    return functools.partial(found.__getitem__, ())


def _lacking(where: str, group: h5py.Group, keys: Mapping[str, str]) -> UserError:
    """The error to raise about an episode without what is needed, with what it has."""
    for name in NEEDED:
        several = inside(group, keys[name])
        if isinstance(several, h5py.Group):
            known = ", ".join(f"{name}={keys[name]}/{part}" for part in several)
            return UserError(f"{where}: {keys[name]} are several; say which to take: --keys {known}")
    return lacking(Path(where), keys)


def _actions(file: Path) -> spaces.Space[Any] | None:
    """What an action may be. None if nothing says so, or it has no bounds.

    Raises:
        UserError: if these are actions that cannot be taken, or the file is damaged.
    """
    if not file.exists():
        return None
    try:
        told = schema.parse(schema.read(file, HOLDS, MOST)["action_space"])
    except schema.Wrong as wrong:
        raise UserError(f"{file} is damaged: action_space: {wrong}") from wrong
    kind = told.get("type") if isinstance(told, dict) else None
    if kind not in SPACES:
        raise UserError(f"{file}: actions are a {kind}; those of {', '.join(SPACES)} can be taken")
    schema.check(told, SPACES[kind], f"{file}: action_space")
    if kind == "Box":
        return _box(file, told)
    return spaces.Discrete(told["n"], start=told["start"]) if kind == "Discrete" else spaces.MultiBinary(told["n"])


def _box(file: Path, told: dict[str, Any]) -> spaces.Box | None:
    try:
        low, high = (np.array(told[side], np.float64) for side in ("low", "high"))
        if low.shape == high.shape and (low <= high).all():
            bounded = bool(np.isfinite(low).all() and np.isfinite(high).all())
            return spaces.Box(low, high, dtype=np.float64) if bounded else None
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: action_space: its bounds are no numbers ({error})") from error
    raise UserError(f"{file}: action_space: its bounds do not fit each other")
