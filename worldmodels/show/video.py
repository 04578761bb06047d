"""Frames to mp4: what was seen and what was dreamt, side by side."""

import contextlib
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw

from worldmodels.core.errors import UserError
from worldmodels.core.files import atomic, read_bytes

LABEL_HEIGHT = 20
SMALL = 1 << 20  # bytes of a film that a page takes as it is
SEES = (60, 180, 75)  # border: green with eyes open,
DREAMS = (230, 60, 50)  # red with eyes shut


class Film:
    """An mp4 (H.264) that is written as its frames come, and appears at `path` when the block ends well.

    Raises UserError, with ffmpeg's own words, if it cannot be made; what lay at `path` is then untouched.

    Args:
        path: ends in .mp4.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: int = 35) -> None:
        self._path = path
        self._atomic = atomic(path)
        self._fps = fps
        self._ffmpeg: subprocess.Popen[bytes] | None = None
        self._size = (0, 0)
        self.length = 0

    def __enter__(self) -> "Film":
        self._aside = self._atomic.__enter__()
        self._words = tempfile.TemporaryFile()
        return self

    def add(self, frame: np.ndarray) -> None:
        """Appends a frame, uint8 (H, W, 3); one of another size than the first is scaled to that."""
        if self._ffmpeg is None:
            height, width, _ = frame.shape
            self._size = (width + width % 2, height + height % 2)  # H.264's are even
            self._ffmpeg = self._start()
        if frame.shape[1::-1] != self._size:
            frame = np.asarray(Image.fromarray(frame).resize(self._size))
        try:
            self._pipe.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError as error:
            raise self._told() from error
        self.length += 1

    def restart(self) -> None:
        """Lets go of all frames."""
        self._stop()
        self._ffmpeg = None
        self.length = 0

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        problem = error
        if error is None:
            problem = self._finish()
        else:
            self._stop()
        self._words.close()
        self._atomic.__exit__(type(problem) if problem else None, problem, trace)
        if problem and problem is not error:
            raise problem

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._ffmpeg and self._ffmpeg.stdin
        return self._ffmpeg.stdin

    def _start(self) -> "subprocess.Popen[bytes]":
        width, height = self._size
        shape = ["-s", f"{width}x{height}", "-r", str(self._fps)]
        raw = ["-f", "rawvideo", "-vcodec", "rawvideo", "-pix_fmt", "rgb24", *shape, "-i", "-"]
        coded = ["-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", "15", "-f", "mp4"]
        try:
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "warning", "-y", *raw, *coded, f"file:{self._aside}"]
        except RuntimeError as error:
            raise UserError(f"{self._path} could not be made: {error}") from error
        # in a process group of its own, for Ctrl-C is ours to handle
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._words, process_group=0
        )

    def _finish(self) -> UserError | None:
        """Waits until all is written; what is wrong, if it is not."""
        if self._ffmpeg is None:
            return UserError(f"{self._path} could not be made: there is nothing to show")
        with contextlib.suppress(BrokenPipeError):  # its exit status tells
            self._pipe.close()
        return self._told() if self._ffmpeg.wait() else None

    def _stop(self) -> None:
        if self._ffmpeg:
            self._ffmpeg.kill()
            self._ffmpeg.wait()
            with contextlib.suppress(BrokenPipeError):
                self._pipe.close()

    def _told(self) -> UserError:
        assert self._ffmpeg
        status = self._ffmpeg.wait()
        self._words.seek(0)
        said = [line for line in self._words.read().decode(errors="replace").splitlines() if line.strip()]
        why = said[-1].strip() if said else f"exit status {status}"
        return UserError(
            f"{self._path} could not be made: ffmpeg ends with {why!r} after {self.length} frames; "
            "what was there before is untouched"
        )


def small(path: Path) -> bytes:
    """A film as small as a page can hold: as it is, or if that is large its first minute, coarser.

    Raises:
        UserError: if it cannot be read, or made smaller.
    """
    content = read_bytes(path)
    if len(content) <= SMALL:
        return content
    with tempfile.TemporaryDirectory() as folder:
        coarser = Path(folder) / path.name
        less = ["-t", "60", "-vf", "scale='min(640,iw)':-2", "-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p"]
        try:
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", f"file:{path}", *less, "-crf", "30"]
        except RuntimeError as error:
            raise UserError(f"{path} could not be made smaller: {error}") from error
        done = subprocess.run([*command, f"file:{coarser}"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise UserError(f"{path} could not be made smaller: ffmpeg ends with exit status {done.returncode}")
        return read_bytes(coarser)


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
        width = max(2, round(picture.shape[1] * height / picture.shape[0] / 2) * 2)
        tile = Image.new("RGB", (width, height + LABEL_HEIGHT), "black")
        scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        tile.paste(scaled, (0, LABEL_HEIGHT))
        draw = ImageDraw.Draw(tile)
        draw.text((6, 4), label, fill="white")
        if border and label in border:
            edges = (0, LABEL_HEIGHT, width - 1, height + LABEL_HEIGHT - 1)
            draw.rectangle(edges, outline=border[label], width=4)
        tiles.append(np.asarray(tile))
    return np.concatenate(tiles, 1)
