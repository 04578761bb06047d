"""Backgrounds that move and mean nothing: noise, panned stills, videos (HRSSM section 9).

An environment that can tell what lies behind its actors asks a Background for the next picture and puts it
there. Training and test backgrounds are disjoint. Each episode starts at a moment of its own, drawn from
the episode's seed (the published code lets its background run on across episodes, which makes results
depend on the order of episodes).
"""

import functools
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from worldmodels.envs.clips import read_clips
from worldmodels.settings.envspec import EnvSpec

SIDE = 64  # of the window on a still
# natural photographs that scikit-image ships
STILLS = {
    "train": ("astronaut", "coffee", "rocket", "motorcycle_left", "hubble_deep_field"),
    "test": ("chelsea", "retina", "ihc"),
}
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
    """The background that `spec` asks for; None for the environment's own, however that may be distracting.

    Raises:
        UserError: if there are no clips to show, or training and test clips are not disjoint.
    """
    if spec.distractor == "noise":
        return NoiseBackground(spec.colour)
    if spec.distractor == "stills":
        return StillsBackground(_stills(spec.split, spec.colour))
    if spec.distractor == "video":
        return VideoBackground(read_clips(spec))
    return None


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
        if (height, width) != frame.shape[:2]:
            return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        return frame


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
