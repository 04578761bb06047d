"""Episodes that others recorded, as rollouts of ours:  worldmodels collect --from PATH"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from worldmodels.core.errors import UserError
from worldmodels.core.files import check_writable, sweep, write_bytes
from worldmodels.core.report import say
from worldmodels.core.seeding import integer
from worldmodels.data.episode import Episode
from worldmodels.data.recordings import NAMES, Recorded, episodes, recordings
from worldmodels.data.store import Rollouts, pack_shard, rollout_folder
from worldmodels.envs.images import to_obs
from worldmodels.settings.config import CollectConfig

POLICY = "recorded"
AT_ONCE = 64  # pictures that are made small together


def adopt(config: CollectConfig) -> None:
    """Writes all episodes of `config.from_` to shards.

    Raises:
        UserError: if something does not fit, the message says what; or there are recordings already. Nothing is left of
            what was written until then.
    """
    folder = rollout_folder(config.data)
    if config.dry_run:
        raise UserError("--dry-run measures what is played; nothing is with --from, so leave one of them out")
    if any(folder.glob("*.h5")):
        Rollouts(folder, config.spec.label)  # of the same environment
    before = sorted(folder.glob(f"{POLICY}-seed{config.seed}-*.h5"))
    if before and not config.fresh:
        raise UserError(f"{folder} holds recordings already; add --fresh to take these instead, or another --seed")
    keys = _keys(config.keys)
    choices = _choices(config, keys)
    check_writable(folder)
    sweep(folder)
    for path in before:
        path.unlink()
    written = list[Path]()
    try:
        for start, shard in _shards(config, _episodes(config, keys, choices)):
            written.append(folder / f"{POLICY}-seed{config.seed}-{start:06d}.h5")
            write_bytes(written[-1], shard)
    except UserError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    if choices:
        say(f"note: actions are whole numbers; each is now {choices} numbers, 1 for what was chosen and -1 for others")


def _keys(typed: tuple[str, ...]) -> dict[str, str]:
    """What their files call each of NAMES."""
    keys = {name: name for name in NAMES}
    for word in typed:
        name, _, key = word.partition("=")
        if name not in NAMES or not key:
            raise UserError(f"--keys {word}: give NAME=THEIRS, NAME one of {', '.join(NAMES)}")
        keys[name] = key
    return keys


def _choices(config: CollectConfig, keys: dict[str, str]) -> int:
    """How many actions there are to choose from, if actions are whole numbers; else 0."""
    largest = 0
    only = {name: key for name, key in keys.items() if name in ("obs", "action")}
    for where, arrays in recordings(config.from_, only):
        action = arrays["action"]
        if action.dtype.kind not in "iu":
            return 0
        if action.size and not 0 <= action.min() <= action.max() < 1000:
            span = f"actions go from {action.min()} to {action.max()}"
            raise UserError(f"{where}: {span}; whole numbers are choices, and those are 0 to 999")
        largest = max(largest, int(action.max(initial=0)))
    return max(2, largest + 1)


def _episodes(config: CollectConfig, keys: dict[str, str], choices: int) -> Iterator[Episode]:
    number = 0
    with tqdm(unit="episode", desc=f"take {config.from_.name}") as bar:
        for where, arrays in recordings(config.from_, keys):
            for recorded in episodes(where, arrays):
                yield _as_ours(recorded, choices, integer(config.seed, POLICY, number))
                number += 1
                bar.update()


def _as_ours(recorded: Recorded, choices: int, seed: int) -> Episode:
    """Raises UserError naming the file, if it cannot be one of ours."""
    try:
        return Episode(
            obs=_frames(recorded.obs),
            action=_actions(recorded.action, choices),
            reward=recorded.reward,
            terminated=recorded.terminated,
            truncated=not recorded.terminated,
            seed=seed,
        )
    except ValueError as error:
        raise UserError(f"{recorded.where}: {error}") from error


def _frames(pictures: np.ndarray) -> np.ndarray:
    """uint8 (N, 64, 64, 3) of pictures (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W)."""
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if pictures.ndim == 4 and pictures.shape[3] not in (1, 3) and pictures.shape[1] in (1, 3):
        pictures = np.moveaxis(pictures, 1, 3)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3):
        raise ValueError(f"obs are {pictures.dtype} {pictures.shape}; pictures are needed, uint8 (T, H, W, 3)")
    coloured = np.broadcast_to(pictures, (*pictures.shape[:3], 3))
    parts = (np.ascontiguousarray(coloured[at : at + AT_ONCE]) for at in range(0, len(coloured), AT_ONCE))
    return np.concatenate([to_obs(list(part)) for part in parts])


def _actions(action: np.ndarray, choices: int) -> np.ndarray:
    """float32 (T, A)."""
    if choices:
        if action.dtype.kind not in "iu" or action.size != len(action):
            raise ValueError(f"actions are {action.dtype} {action.shape}, where other files have whole numbers (T,)")
        return np.where(np.arange(choices) == action.reshape(-1, 1), 1, -1).astype(np.float32)
    if action.dtype.kind in "iu":
        raise ValueError(f"actions are {action.dtype}, where other files have numbers in [-1, 1]")
    numbers = action.reshape(len(action), -1).astype(np.float32)
    if not (np.abs(numbers) <= 1).all():
        raise ValueError(f"actions go from {numbers.min():g} to {numbers.max():g}; scale them to [-1, 1]")
    return numbers


def _shards(config: CollectConfig, taken: Iterator[Episode]) -> Iterator[tuple[int, bytes]]:
    """Where each begins, and its bytes; width of actions is one for all."""
    width = 0
    for start in itertools.count(0, config.shard_size):
        those = list(itertools.islice(taken, config.shard_size))
        if not those:
            return
        width = width or those[0].action.shape[1]
        if wrong := [one.action.shape[1] for one in those if one.action.shape[1] != width]:
            raise UserError(f"--from {config.from_}: actions of {width} numbers, and others of {wrong[0]}")
        if len(those) < 2 and start == 0:
            raise UserError(f"--from {config.from_} holds one episode; two are needed, for one is held out")
        yield start, pack_shard(those, _attributes(config, max(map(len, those))))


def _attributes(config: CollectConfig, longest: int) -> dict[str, Any]:
    """What a shard says of itself."""
    asked = {"env": config.spec.label, "policy": POLICY, "seed": config.seed, "shard_size": config.shard_size}
    return asked | {"max_steps": longest, "min_steps": 0, "noise": 0.0, "clips": [], "videos": "", "failures": []}
