"""Backgrounds that move and mean nothing: noise, panned stills, videos (HRSSM section 9).

An environment that can tell what lies behind its actors asks a Background for the next picture and puts it
there. Training and test backgrounds are disjoint. Each episode starts at a moment of its own, drawn from
the episode's seed (the published code lets its background run on across episodes, which makes results
depend on the order of episodes).
"""

import functools
import hashlib
import itertools
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import imageio_ffmpeg
import numpy as np
from PIL import Image

from worldmodels.core.errors import UserError
from worldmodels.settings.envspec import EnvSpec

logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of every clip that is scaled

SIDE = 64  # clips are kept at the size of an observation
# natural photographs that scikit-image ships
STILLS = {
    "train": ("astronaut", "coffee", "rocket", "motorcycle_left", "hubble_deep_field"),
    "test": ("chelsea", "retina", "ihc"),
}
CLIPS = (".mp4", ".avi", ".webm", ".mov", ".mkv")  # in capitals too
SPLITS = ("train", "test")
NAMED = 5  # files, in a message
FRAMES = 1000  # of a clip at most, 12 KB each (the authors: of all clips together)
PAN = 0.5  # pixels per frame: about as much as the hard DMControl-GB clips move (HRSSM section 9)


class Background(Protocol):
    """What lies behind the actors."""

    def begin(self, rng: np.random.Generator) -> None:
        """A new episode."""
        ...

    def picture(self, height: int, width: int) -> np.ndarray:
        """The next picture, uint8 (height, width, 3)."""
        ...


def background(spec: EnvSpec) -> Background | None:
    """The background that `spec` asks for; None for the environment's own.

    Raises:
        UserError: if there are no clips to show, or training and test clips are not disjoint.
    """
    if spec.distractor == "none":
        return None
    if spec.distractor == "noise":
        return NoiseBackground(spec.colour)
    if spec.distractor == "stills":
        return StillsBackground(_stills(spec.split, spec.colour))
    return VideoBackground(_clips(spec.videos, spec.split, spec.colour))


class NoiseBackground:
    """Every pixel uniform, anew in every frame."""

    def __init__(self, colour: bool) -> None:
        self._channels = 3 if colour else 1

    def begin(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def picture(self, height: int, width: int) -> np.ndarray:
        noise = self._rng.integers(0, 256, (height, width, self._channels), np.uint8)
        return np.broadcast_to(noise, (height, width, 3))


class StillsBackground:
    """A window that wanders over a photograph, in a direction that slowly turns."""

    def __init__(self, pictures: tuple[Image.Image, ...]) -> None:
        self._pictures = pictures

    def begin(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._still = self._pictures[rng.integers(len(self._pictures))]
        self._at = rng.uniform(0, np.array(self._still.size) - SIDE)
        self._heading = rng.uniform(0, 2 * np.pi)

    def picture(self, height: int, width: int) -> np.ndarray:
        self._heading += self._rng.normal(0, 0.1)
        room = np.array(self._still.size) - SIDE
        at = self._at + PAN * np.array([np.cos(self._heading), np.sin(self._heading)])
        if (at < 0).any() or (at > room).any():  # turn round at the edge
            self._heading += np.pi
        self._at = np.clip(at, 0, room)
        box = (*self._at, *(self._at + SIDE))
        return np.asarray(self._still.resize((width, height), Image.Resampling.BILINEAR, box))


class VideoBackground:
    """Clips one after another, from a random moment of a random one."""

    def __init__(self, clips: tuple[np.ndarray, ...]) -> None:
        self._clips = clips

    def begin(self, rng: np.random.Generator) -> None:
        self._clip = int(rng.integers(len(self._clips)))
        self._next = int(rng.integers(len(self._clips[self._clip])))

    def picture(self, height: int, width: int) -> np.ndarray:
        clip = self._clips[self._clip]
        frame: np.ndarray = clip[self._next]
        self._next += 1
        if self._next == len(clip):
            self._clip = (self._clip + 1) % len(self._clips)
            self._next = 0
        if (height, width) != (SIDE, SIDE):
            return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        return frame


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
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in CLIPS and path.is_file())


def _instead(folder: Path) -> str:
    """What is needed, and what is there."""
    kinds = " ".join(CLIPS)
    places = "in train/ and test/, or at least two in the folder itself, sub-folders included"
    return f"needed: {kinds} {places}; {_there(folder)}"


def _there(folder: Path) -> str:
    """What is in a folder without clips."""
    if not folder.is_dir():
        return "there is no such folder"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if not files:
        return "there is no file"
    more = " ..." if len(files) > NAMED else ""
    return f"there: {', '.join(files[:NAMED])}{more}"


def train_clips(spec: EnvSpec) -> dict[str, Path]:
    """The training clips of a video background, by their contents; none for other backgrounds."""
    if spec.distractor != "video":
        return {}
    return {_content(path): path for path in split_clips(_folder(spec.videos))["train"]}


def check_test_clips(spec: EnvSpec, known: Collection[str]) -> None:
    """Makes sure that tests show what was never learnt from.

    Args:
        spec: the environment, whose clips may not be those it was collected with.
        known: contents of the clips that V was trained in front of (`train_clips`).

    Raises:
        UserError: naming a test clip that is among them.
    """
    if spec.distractor == "video":
        for path in split_clips(_folder(spec.videos))["test"]:
            if _content(path) in known:
                known_clip = f"{path} is for tests, but V was trained in front of it"
                raise UserError(f"--distractor-videos: {known_clip}; give other clips")


@functools.lru_cache(maxsize=4)
def _clips(folder: str, split: str, colour: bool) -> tuple[np.ndarray, ...]:
    return tuple(_read(path, colour) for path in split_clips(_folder(folder))[split])


def _folder(videos: str) -> Path:
    if not videos:
        raise UserError(
            "--distractor video needs --distractor-videos DIR with clips (or take --distractor stills)",
        )
    return Path(videos)


def _read(path: Path, colour: bool) -> np.ndarray:
    """A clip as uint8 (T, 64, 64, 3)."""
    scale = ["-vf", f"scale={SIDE}:{SIDE}:flags=area" + ("" if colour else ",hue=s=0")]
    try:
        reader = imageio_ffmpeg.read_frames(str(path), output_params=scale)
        next(reader)
        parts = itertools.islice(reader, FRAMES)
        frames = [np.frombuffer(part, np.uint8).reshape(SIDE, SIDE, 3) for part in parts]
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} could not be read as a video; replace or remove it") from error
    if not frames:
        raise UserError(f"{path} holds no frames; replace or remove it")
    return np.stack(frames)


@functools.lru_cache(maxsize=4)
def _stills(split: str, colour: bool) -> tuple[Image.Image, ...]:
    from skimage import data  # late: only those who ask for stills need it

    pictures = []
    for name in STILLS[split]:
        path = Path(data.__file__).parent
        file = next(path.glob(f"{name}.*"))
        with Image.open(file) as opened:
            picture = opened.convert("RGB" if colour else "L").convert("RGB")
        scale = 3 * SIDE / min(picture.size)
        pictures.append(picture.resize((round(picture.width * scale), round(picture.height * scale))))
    return tuple(pictures)


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
