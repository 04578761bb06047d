"""What a page shows, as a film to take along."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np

from worldmodels.show.video import DREAMS, Film, panels


class Recording:
    """A film that grows frame by frame.

    Args:
        rate: frames a second.
    """

    def __init__(self, rate: float) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="worldmodels-play-")
        self._path = Path(self._folder.name) / "dream.mp4"
        self._open = contextlib.ExitStack()
        self._film = self._open.enter_context(Film(self._path, round(rate)))

    @property
    def length(self) -> int:
        """Frames so far."""
        return self._film.length

    def add(self, pictures: dict[str, np.ndarray], dream: str) -> None:
        """Appends a frame: label -> uint8 (H, W, 3), side by side; that called `dream` gets a border.

        Raises:
            UserError: if there is no film to be made here.
        """
        self._film.add(panels(pictures, border={dream: DREAMS}))

    def finished(self) -> bytes:
        """The mp4; nothing is left of it on disk. Raises UserError if it could not be made."""
        with self._folder:
            self._open.close()
            return self._path.read_bytes()
