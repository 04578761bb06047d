"""Films that a page can hold."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from worldmodels.core.errors import UserError
from worldmodels.show import video
from worldmodels.show.video import Film, small


def test_a_small_film_is_taken_as_it_is_and_a_large_one_made_coarser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "film.mp4"
    with Film(path) as film:
        for _ in range(5):
            film.add(rng.integers(0, 256, (120, 800, 3), np.uint8))
    assert small(path) == path.read_bytes()
    monkeypatch.setattr(video, "SMALL", 1000)
    coarser = tmp_path / "coarser.mp4"
    coarser.write_bytes(small(path))
    assert coarser.stat().st_size < path.stat().st_size / 2
    meta = next(imageio_ffmpeg.read_frames(str(coarser)))
    assert meta["size"] == (640, 96) and meta["codec"] == "h264"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="could not be made smaller"):
        small(path)
