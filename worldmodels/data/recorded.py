"""What recordings are, in whatever files they lie: arrays by name, and the episodes that those hold."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from PIL import Image

from worldmodels.core.errors import UserError

NAMES = ("obs", "action", "reward", "terminated", "truncated")
NEEDED = ("obs", "action")
AT_ONCE = 64  # pictures that are made small together
Arrays = dict[str, np.ndarray]
"""What was recorded, by NAMES; only what there is."""
Small = Callable[[np.ndarray], np.ndarray]
"""Makes observations, uint8 (N, 64, 64, 3), of pictures (N, ...), or raises ValueError."""


class Recording(NamedTuple):
    """What lies in one place: an episode, or several end to end."""

    where: str  # file, and what of it
    parts: Mapping[str, Callable[[], np.ndarray]]  # by NAMES; each is read when it is called, while its file is open
    actions: spaces.Space[Any] | None = None  # what an action may be, where files say so


class Recorded(NamedTuple):
    """One episode of T steps, its pictures and actions still of any kind."""

    where: str  # file, and what of it
    obs: np.ndarray  # (T+1, ...)
    action: np.ndarray  # (T, ...)
    reward: np.ndarray  # float32 (T,)
    terminated: bool


def unpacked(pictures: Iterable[bytes | np.ndarray], small: Small) -> np.ndarray:
    """Observations of pictures that lie there as JPEG or PNG files."""
    return in_portions((_unpacked(picture) for picture in pictures), small)


def in_portions(pictures: Iterator[np.ndarray], small: Small) -> np.ndarray:
    """Observations, uint8 (N, 64, 64, 3), of pictures that come one by one, of one size; few of them are held."""
    portions = list[np.ndarray]()
    portion = list[np.ndarray]()
    for picture in pictures:
        portion.append(picture)
        if len(portion) == AT_ONCE:
            portions.append(small(np.stack(portion)))
            portion = []
    if portion:
        portions.append(small(np.stack(portion)))
    if not portions:
        raise ValueError("there are no pictures")
    return np.concatenate(portions)


def _unpacked(packed: bytes | np.ndarray) -> np.ndarray:
    with Image.open(io.BytesIO(bytes(packed)), formats=("JPEG", "PNG")) as picture:
        return np.asarray(picture.convert("RGB"))


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
