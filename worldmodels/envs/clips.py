"""Clips to show behind actors: found in a folder, split into those for training and those for tests, read as arrays."""

import functools
import hashlib
import itertools
import logging
from collections.abc import Collection
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, UnidentifiedImageError

from worldmodels.core.errors import UserError
from worldmodels.settings.envspec import EnvSpec

logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of every clip that is scaled

CLIPS = (".mp4", ".avi", ".webm", ".mov", ".mkv")  # in capitals too
FRAMES_OF_CLIPS = (".jpg", ".jpeg", ".png")  # a folder of these is a clip, as DAVIS has them
SPLITS = ("train", "test")
NAMED = 5  # files, in a message
SIDES = {"video": 64, "dcs": 128}  # clips are kept at about the size they are seen at: half a sky fills a picture
FRAMES = 1000  # of a clip at most, 12 KB each, or 48 for a sky (the authors: of all clips, for each environment)


def split_clips(folder: Path) -> dict[str, list[Path]]:
    """The clips for training and those for tests.

    Args:
        folder: holds train/ and test/ with clips, or clips of which the last quarter by name are for
            tests. Each may lie in sub-folders.

    Raises:
        UserError: if there are too few, or one clip is in both.
    """
    found = _found(folder)
    for split, paths in found.items():
        if not paths:
            raise UserError(f"--distractor-videos {folder} holds no {split} clips; {_instead(folder)}")
    contents = {_content(path): path for path in found["train"]}
    for path in found["test"]:
        if twin := contents.get(_content(path)):
            raise UserError(
                f"--distractor-videos: {path} and {twin} are the same clip; tests need clips of their own",
            )
    return found


def _found(folder: Path) -> dict[str, list[Path]]:
    if any((folder / split).is_dir() for split in SPLITS):
        return {split: _clips_below(folder / split) for split in SPLITS}
    clips = _clips_below(folder)
    tests = max(1, len(clips) // 4)
    return {"train": clips[:-tests], "test": clips[-tests:]}


def _clips_below(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    films = {path for path in files if path.suffix.lower() in CLIPS}
    return sorted(films | {path.parent for path in files if path.suffix.lower() in FRAMES_OF_CLIPS})


def _frames_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in FRAMES_OF_CLIPS)


def _instead(folder: Path) -> str:
    """What is needed, and what is there."""
    kinds = " ".join(CLIPS)
    places = "in train/ and test/, or at least two in the folder itself, sub-folders included"
    return f"needed: {kinds} or folders of .jpg or .png {places}; {_there(folder)}"


def _there(folder: Path) -> str:
    """What is in a folder without clips."""
    if not folder.is_dir():
        return "there is no such folder"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if not files:
        return "there is no file"
    more = " ..." if len(files) > NAMED else ""
    return f"there: {', '.join(files[:NAMED])}{more}"


def chosen_clips(spec: EnvSpec) -> dict[str, list[Path]]:
    """The clips that an environment shows, for training and for tests; none of either if it shows none.

    Raises:
        UserError: if there are fewer than it is to show.
    """
    if not spec.shows_clips:
        return {split: [] for split in SPLITS}
    folder = _folder(spec)
    found = split_clips(folder)
    if spec.distractor == "dcs" and (most := spec.strength.videos):
        for split, paths in found.items():
            if len(paths) < most:
                asked = f"--dcs-intensity {spec.intensity} shows {most} {split} clips"
                raise UserError(f"{asked}, and --distractor-videos {folder} holds {len(paths)}; {_instead(folder)}")
        return {split: paths[:most] for split, paths in found.items()}
    return found


def train_clips(spec: EnvSpec) -> dict[str, Path]:
    """The training clips that an environment shows, by their contents; none if it shows none."""
    return {_content(path): path for path in chosen_clips(spec)["train"]}


def check_test_clips(spec: EnvSpec, known: Collection[str]) -> None:
    """Makes sure that tests show what was never learnt from.

    Args:
        spec: the environment, whose clips may not be those it was collected with.
        known: contents of the clips that V was trained in front of (`train_clips`).

    Raises:
        UserError: naming a test clip that is among them.
    """
    for path in chosen_clips(spec)["test"]:
        if _content(path) in known:
            known_clip = f"{path} is for tests, but V was trained in front of it"
            raise UserError(f"--distractor-videos: {known_clip}; give other clips")


@functools.lru_cache(maxsize=4)  # the environments of a process share them
def read_clips(spec: EnvSpec) -> tuple[np.ndarray, ...]:
    """The clips of the split that an environment shows, each uint8 (T, S, S, 3) with S of SIDES; none if it shows none.

    Raises:
        UserError: if there are too few, one cannot be read, or training and test clips are not disjoint.
    """
    colour = spec.colour or spec.distractor == "dcs"
    return tuple(_read(path, SIDES[spec.distractor], colour) for path in chosen_clips(spec)[spec.split])


def _read(path: Path, side: int, colour: bool) -> np.ndarray:
    return _pictures(path, side, colour) if path.is_dir() else _film(path, side, colour)


def _folder(spec: EnvSpec) -> Path:
    if not spec.videos:
        otherwise = "--dcs-parts camera colour" if spec.distractor == "dcs" else "--distractor stills"
        needs = f"--distractor {spec.distractor} needs --distractor-videos DIR with clips"
        raise UserError(f"{needs} (or take {otherwise})")
    return Path(spec.videos)


def _film(path: Path, side: int, colour: bool) -> np.ndarray:
    """A video file as uint8 (T, side, side, 3)."""
    scale = ["-vf", f"scale={side}:{side}:flags=area" + ("" if colour else ",hue=s=0")]
    try:
        reader = imageio_ffmpeg.read_frames(str(path), output_params=scale)
        next(reader)
        parts = itertools.islice(reader, FRAMES)
        frames = [np.frombuffer(part, np.uint8).reshape(side, side, 3) for part in parts]
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} could not be read as a video; replace or remove it") from error
    if not frames:
        raise UserError(f"{path} holds no frames; replace or remove it")
    return np.stack(frames)


def _pictures(folder: Path, side: int, colour: bool) -> np.ndarray:
    """A folder of pictures, in the order of their names, as uint8 (T, side, side, 3)."""
    return np.stack([_picture(path, side, colour) for path in _frames_in(folder)[:FRAMES]])


def _picture(path: Path, side: int, colour: bool) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB" if colour else "L").convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path} could not be read as a picture; replace or remove it") from error
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def _content(path: Path) -> str:
    """What tells a clip from others, wherever it lies."""
    parts = _frames_in(path) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.read_bytes())
    return whole.hexdigest()
