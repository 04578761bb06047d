"""Episodes that others recorded, as rollouts of ours:  worldmodels collect --from PATH"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from tqdm import tqdm

from worldmodels.core.errors import UserError
from worldmodels.core.files import check_writable, sweep, write_bytes
from worldmodels.core.report import say
from worldmodels.core.seeding import integer
from worldmodels.data.episode import Episode
from worldmodels.data.recorded import AT_ONCE, NAMES, Recorded, episodes
from worldmodels.data.recordings import recordings
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.data.shard import pack_shard
from worldmodels.envs.images import from_native, to_obs
from worldmodels.settings.stages import CollectConfig

POLICY = "recorded"
MOST_CHOICES = 1000
Space = spaces.Space[Any]


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
    space = _space(config, keys)
    check_writable(folder)
    sweep(folder)
    for path in before:
        path.unlink()
    written = list[Path]()
    try:
        for start, shard in _shards(config, _episodes(config, keys, space)):
            written.append(folder / f"{POLICY}-seed{config.seed}-{start:06d}.h5")
            write_bytes(written[-1], shard)
    except UserError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    if isinstance(space, spaces.Discrete):
        say(f"note: actions are whole numbers; each is now {space.n} numbers, 1 for what was chosen and -1 for others")
    if isinstance(space, spaces.Box):
        least, greatest = (", ".join(f"{number:g}" for number in side) for side in (space.low, space.high))
        say(f"note: actions are scaled: -1 is {least}, and 1 is {greatest}")


def _keys(typed: tuple[str, ...]) -> dict[str, str]:
    """What their files call those of NAMES that have another name than usual."""
    keys = dict[str, str]()
    for word in typed:
        name, _, key = word.partition("=")
        if name not in NAMES or not key:
            raise UserError(f"--keys {word}: give NAME=THEIRS, NAME one of {', '.join(NAMES)}")
        keys[name] = key
    return keys


def _space(config: CollectConfig, keys: dict[str, str]) -> Space | None:
    """What actions may be where files do not say so, as far as they tell; None if they are taken as they are."""
    most = -1
    extremes = list[np.ndarray]()  # rows of numbers
    for recording in recordings(config.from_, keys, _observations):
        if recording.actions is not None:
            continue
        action = recording.parts["action"]()
        if action.dtype.kind in "iu":
            most = max(most, _largest(recording.where, action))
        elif not config.scale_actions:
            return None
        else:
            extremes = _extremes(recording.where, extremes, action)
    if extremes:
        return spaces.Box(extremes[0], extremes[1], dtype=np.float64)
    return spaces.Discrete(max(2, most + 1)) if most >= 0 else None


def _largest(where: str, action: np.ndarray) -> int:
    """The largest of whole numbers. Raises UserError if they are no choices."""
    if action.size and not 0 <= action.min() <= action.max() < MOST_CHOICES:
        span = f"actions go from {action.min()} to {action.max()}"
        raise UserError(f"{where}: {span}; whole numbers are choices, and those are 0 to {MOST_CHOICES - 1}")
    return int(action.max(initial=0))


def _extremes(where: str, before: list[np.ndarray], action: np.ndarray) -> list[np.ndarray]:
    """The least and the greatest of each number so far."""
    if not action.size:
        return before
    rows = action.reshape(len(action), -1).astype(np.float64)
    if before and rows.shape[1] != len(before[0]):
        raise UserError(f"{where}: actions of {len(before[0])} numbers, and others of {rows.shape[1]}")
    if not np.isfinite(rows).all():
        raise UserError(f"{where}: there are actions that are no numbers")
    both = np.concatenate([*(side[None] for side in before), rows])
    return [both.min(0), both.max(0)]


def _episodes(config: CollectConfig, keys: dict[str, str], space: Space | None) -> Iterator[Episode]:
    number = 0
    with tqdm(unit="episode", desc=f"take {config.from_.name}") as bar:
        for recording in recordings(config.from_, keys, _observations):
            arrays = {name: part() for name, part in recording.parts.items()}
            for recorded in episodes(recording.where, arrays):
                yield _as_ours(recorded, recording.actions or space, integer(config.seed, POLICY, number))
                number += 1
                bar.update()


def _as_ours(recorded: Recorded, space: Space | None, seed: int) -> Episode:
    """Raises UserError naming the file, if it cannot be one of ours."""
    try:
        return Episode(
            obs=_observations(recorded.obs),
            action=_actions(recorded.action, space),
            reward=recorded.reward,
            terminated=recorded.terminated,
            truncated=not recorded.terminated,
            seed=seed,
        )
    except ValueError as error:
        raise UserError(f"{recorded.where}: {error}") from error


def _observations(pictures: np.ndarray) -> np.ndarray:
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


def _actions(action: np.ndarray, space: Space | None) -> np.ndarray:
    """float32 (T, A)."""
    whole = action.dtype.kind in "iu"
    if isinstance(space, spaces.Discrete) and not (whole and action.size == len(action)):
        raise ValueError(f"actions are {action.dtype} {action.shape}, where other files have whole numbers (T,)")
    if space is None and whole:
        raise ValueError(f"actions are {action.dtype}, where other files have numbers in [-1, 1]")
    numbers = action.reshape(len(action), -1).astype(np.float32) if space is None else from_native(action, space)
    if not (np.abs(numbers) <= 1).all():
        span = f"actions go from {action.min():g} to {action.max():g}"
        wrong = (
            "beyond the bounds that their files tell"
            if space
            else "scale them to [-1, 1], or let --scale-actions do so"
        )
        raise ValueError(f"{span}; {wrong}")
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
