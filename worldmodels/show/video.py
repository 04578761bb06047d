"""Frames to mp4: what was seen and what was dreamt, side by side."""

from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw

from worldmodels.core.files import atomic

LABEL_HEIGHT = 20
SEES, DREAMS = (60, 180, 75), (230, 60, 50)  # border: green with eyes open, red with eyes shut


class Film:
    """An mp4 (H.264) that is written as its frames come, and appears at `path` when the block ends well.

    Args:
        path: ends in .mp4.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: int = 35) -> None:
        self._atomic, self._fps = atomic(path), fps
        self._writer: Any = None
        self.length = 0

    def __enter__(self) -> "Film":
        self._aside = self._atomic.__enter__()
        return self

    def add(self, frame: np.ndarray) -> None:
        """Appends a frame, uint8 (H, W, 3); all of one even size."""
        if self._writer is None:
            size = (frame.shape[1], frame.shape[0])
            self._writer = imageio_ffmpeg.write_frames(
                str(self._aside), size, fps=self._fps, quality=7, macro_block_size=2, output_params=["-f", "mp4"]
            )
            self._writer.send(None)
        self._writer.send(np.ascontiguousarray(frame))
        self.length += 1

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.close()
        self._atomic.__exit__(*error)


def panels(
    pictures: dict[str, np.ndarray], height: int = 256, border: dict[str, tuple[int, int, int]] | None = None
) -> np.ndarray:
    """Pictures of any size side by side under their labels, scaled to one height without smoothing.

    Args:
        pictures: label -> uint8 (H, W, 3).
        height: of each picture in the result.
        border: label -> colour of a border.
    """
    tiles = []
    for label, picture in pictures.items():
        width = round(picture.shape[1] * height / picture.shape[0] / 2) * 2
        tile = Image.new("RGB", (width, height + LABEL_HEIGHT), "black")
        tile.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (0, LABEL_HEIGHT))
        draw = ImageDraw.Draw(tile)
        draw.text((6, 4), label, fill="white")
        if border and label in border:
            draw.rectangle((0, LABEL_HEIGHT, width - 1, height + LABEL_HEIGHT - 1), outline=border[label], width=4)
        tiles.append(np.asarray(tile))
    return np.concatenate(tiles, 1)
