"""Films are made of whatever can be a picture, never half, and no result hangs on one."""

import dataclasses
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from worldmodels.acting.controller_spec import load_controller
from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.envs.images import to_picture
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import MDNRNNSettings, VAESettings
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig, VisionConfig
from worldmodels.show import films
from worldmodels.show.video import Film
from worldmodels.stages.collect import collect
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

GREY = np.array([[0, 128], [255, 0]], np.uint8)
COLOURS = np.repeat(GREY[..., None], 3, 2)


@pytest.mark.parametrize(
    "frame",
    [
        COLOURS,
        GREY,
        GREY[..., None],
        COLOURS.tolist(),
        np.stack([COLOURS * 0, COLOURS]),
        [COLOURS * 0, COLOURS],
        (COLOURS,),
        COLOURS / 255,
        (COLOURS / 255).astype(np.float32),
        COLOURS.astype(float),
        COLOURS.astype(np.int64),
        np.concatenate([COLOURS, COLOURS[..., :1]], 2),
    ],
)
def test_whatever_can_be_a_picture_is_made_one(frame: Any) -> None:
    picture = to_picture(frame)
    assert picture.dtype == np.uint8 and np.array_equal(picture, COLOURS)


@pytest.mark.parametrize("frame", [None, "text", [], np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((0, 4, 3))])
def test_what_cannot_is_told(frame: Any) -> None:
    with pytest.raises(UserError, match=r"render\(\) gives .*, which is no picture"):
        to_picture(frame)


def test_an_environment_that_cannot_draw_any_more_is_named() -> None:
    env = make_env("tests.faults.habits:DrawsOnce-v0")
    env.reset(seed=0)
    env.render()
    env.step(np.zeros(2, np.float32))
    with pytest.raises(
        UserError, match=r"--env tests\.faults\.habits:DrawsOnce-v0: render\(\) raises OSError: no window"
    ):
        env.render()


def make(path: Path, count: int, rng: np.random.Generator) -> None:
    with Film(path) as film:
        for _ in range(count):
            film.add(rng.integers(0, 256, (256, 256, 3), np.uint8))  # noise, which takes space


def test_frames_of_changing_and_odd_sizes_become_one_film(tmp_path: Path) -> None:
    with Film(tmp_path / "film.mp4") as film:
        for step in range(6):
            film.add(np.full((65 + step, 81 - step, 3), 40 * step, np.uint8))
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))[0] == 6
    assert next(imageio_ffmpeg.read_frames(str(tmp_path / "film.mp4")))["size"] == (82, 66)


def test_a_film_that_is_begun_again_shows_nothing_of_before(tmp_path: Path) -> None:
    with Film(tmp_path / "film.mp4") as film:
        for colour, count in ((0, 5), (200, 3)):
            film.restart()
            for _ in range(count):
                film.add(np.full((64, 64, 3), colour, np.uint8))
    frames = list(imageio_ffmpeg.read_frames(str(tmp_path / "film.mp4")))[1:]
    assert film.length == len(frames) == 3 and np.frombuffer(frames[0], np.uint8).min() > 190


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: what a full disk is to those who write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("count", [10, 120])  # it fails at the end, and while frames still come
def test_a_film_that_is_cut_short_replaces_none(tmp_path: Path, count: int) -> None:
    path, rng = tmp_path / "film.mp4", np.random.default_rng(0)
    make(path, 3, rng)
    whole = path.read_bytes()
    with (
        small_disk(200_000),
        pytest.raises(UserError, match=r"film\.mp4 could not be made: ffmpeg ends with .*untouched"),
    ):
        make(path, count, rng)
    assert path.read_bytes() == whole and [found.name for found in tmp_path.iterdir()] == ["film.mp4"]


def test_what_ffmpeg_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'No space left on device' >&2\ncat > /dev/null\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(broken))
    with pytest.raises(UserError, match="'No space left on device' after 4 frames"):
        make(tmp_path / "film.mp4", 4, np.random.default_rng(0))
    assert "No space left" in films.trouble(EnvSpec("doom"))


def controller(folder: Path, name: str) -> ControllerConfig:
    """A tiny V and M of a habit, and how its controller is to be evolved."""
    env: dict[str, Any] = {
        "env": f"tests.faults.habits:{name}-v0",
        "run": folder / "run",
        "data": folder / "data",
        "workers": 0,
    }
    collect(CollectConfig(**env, episodes=6, shard_size=3, max_steps=30))
    train_vision(VisionConfig(**env, steps=2, batch_size=8, shuffle_buffer=50, model=VAESettings(code_size=4)))
    train_memory(
        MemoryConfig(
            **env,
            steps=2,
            batch_size=4,
            shuffle_buffer=100,
            clip=1.0,
            model=MDNRNNSettings(hidden_size=8, sequence_length=8),
        )
    )
    return ControllerConfig(
        **env, generations=1, pop_size=4, episodes=3, max_steps=30, test_every=1, test_episodes=4, final_episodes=6
    )


@pytest.fixture(autouse=True)
def habits_are_typed(forgotten: None) -> None:
    plugins.use("tests.faults.habits")


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> ControllerConfig:
    return controller(tmp_path_factory.mktemp("anything"), "DrawsAnything")


def test_an_environment_that_fails_and_draws_anything_is_evolved_in_scored_and_filmed(
    anything: ControllerConfig, capsys: pytest.CaptureFixture
) -> None:
    config = anything
    train_controller(config)
    printed = capsys.readouterr().out
    assert "episodes played anew after an error of the environment: " in printed
    assert "simulator: state is invalid" in printed and "film" not in printed
    film = config.folder / "reality.mp4"
    assert imageio_ffmpeg.count_frames_and_secs(str(film))[0] == 20  # an episode's, whole
    film.unlink()
    scores = evaluate(EvaluateConfig(run=config.folder, episodes=8, workers=0))
    assert "played anew" in capsys.readouterr().out and film.exists()
    assert all(score.n == 8 and np.isfinite(score.mean) for score in scores.values())


def test_what_cannot_be_filmed_is_told_before_the_first_generation_and_scored_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = controller(tmp_path, "DrawsNothing")
    capsys.readouterr()
    train_controller(config)
    printed = capsys.readouterr().out
    note = "note: there will be no film of the real environment: render() gives NoneType, which is no picture"
    assert 0 <= printed.index(note) < printed.index("evolved in the real environment")
    assert not (config.folder / "reality.mp4").exists() and load_controller(config.folder)[2]["real"]["n"] == 6
    evaluate(EvaluateConfig(run=config.folder, episodes=2, workers=0))
    printed = capsys.readouterr().out
    assert printed.index("there will be no film: render() gives NoneType") < printed.index("our controller in the real")


def test_a_film_that_fails_at_last_costs_no_table(
    anything: ControllerConfig, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(anything, name="without")
    monkeypatch.setattr(films, "trouble", lambda env: "")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "/bin/false")
    train_controller(config)
    printed = capsys.readouterr().out
    assert printed.index("evolved in the real environment") < printed.index("reality.mp4 could not be made")
    assert load_controller(config.folder)[2]["real"]["n"] == 6
