"""Frames to mp4: what was seen and what was dreamt, side by side."""

from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw

from worldmodels.checkpoint import atomic

LABEL_HEIGHT = 20
SEES, DREAMS = (60, 180, 75), (230, 60, 50)  # border: green with eyes open, red with eyes shut


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: int = 35) -> None:
    """Writes frames, uint8 (H, W, 3) of one even size, as H.264."""
    frames = iter(frames)
    first = next(frames)
    with atomic(path.with_suffix(".mp4")) as aside:
        size = (first.shape[1], first.shape[0])
        writer = imageio_ffmpeg.write_frames(
            str(aside), size, fps=fps, quality=7, macro_block_size=2, output_params=["-f", "mp4"]
        )
        writer.send(None)
        writer.send(np.ascontiguousarray(first))
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()


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
