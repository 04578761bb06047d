"""Datasets of Minari, by its own writer, and of LeRobot, as its documentation lays them out, become rollouts."""

import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from PIL import Image
from pyarrow import parquet

from tests.stages.test_adopt import take
from worldmodels.core.errors import UserError
from worldmodels.data.rollouts import Rollouts
from worldmodels.envs.images import ImageEnv, from_native
from worldmodels.settings.command_line import parse
from worldmodels.settings.stages import VisionConfig
from worldmodels.show.video import Film
from worldmodels.stages.train_vision import train_vision

PICTURE = spaces.Box(0, 255, (48, 80, 3), np.uint8)
PEDALS = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 4], np.float32))


LAST = [np.full(PICTURE.shape, 60, np.uint8), np.random.default_rng(0).integers(0, 256, PICTURE.shape, np.uint8)]
"""Last pictures of episodes. JPEGs of one length are an array, and as soon as one has another, they are of any."""


def grey(level: int) -> np.ndarray:
    """A picture that JPEG and video leave as it is, nearly."""
    return np.full(PICTURE.shape, level, np.uint8)


def trained(folder: Path) -> None:
    """A step of V on what was taken."""
    words = (
        f"--env mine --data {folder / 'data'} --run {folder / 'run'} --workers 0 --preset tiny --steps 1 --batch-size 4"
    )
    train_vision(parse(VisionConfig, words.split()))
    assert (folder / "run/vision/model.safetensors").exists()


# Minari


def minaris(
    folder: Path, patch: pytest.MonkeyPatch, shown: spaces.Space = PICTURE, done: spaces.Space = PEDALS, **changes: Any
) -> Path:
    """Two episodes, of 6 and 7 steps, as Minari writes them: the first terminates, the second is truncated."""
    patch.setenv("MINARI_DATASETS_PATH", str(folder / "theirs"))
    done.seed(0)
    buffers = []
    for number, steps in enumerate((6, 7)):
        last = np.arange(steps) == steps - 1
        told = {
            "observations": [grey(10 * t + 100 * number) for t in range(steps)] + [LAST[number]],
            "actions": [done.sample() for _ in range(steps)],
            "rewards": [float(t) for t in range(steps)],
            "terminations": list(last & (number == 0)),
            "truncations": list(last & (number == 1)),
            "infos": {},
        }
        buffers.append(EpisodeBuffer(**(told | changes)))
    minari.create_dataset_from_buffers("mine/test-v0", buffer=buffers, observation_space=shown, action_space=done)
    return folder / "theirs/mine/test-v0/data"


def test_minaris_episodes_become_rollouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures out of their JPEGs, ends as they are told, actions by the bounds of their space."""
    data = minaris(tmp_path, monkeypatch)
    (shard,) = take(tmp_path).shards
    assert list(shard.lengths) == [6, 7] and list(shard.terminated) == [True, False]
    with h5py.File(data / "main_data.hdf5") as file:
        action = file["episode_1/actions"][()]
        assert [file[f"episode_{number}/observations"].ndim for number in (0, 1)] == [2, 1]
    assert np.allclose(shard.episode(0).obs.mean((1, 2, 3)), 10 * np.arange(7), atol=1)
    episode = shard.episode(1)
    assert episode.obs.shape == (8, 64, 64, 3) and list(episode.reward) == [0, 1, 2, 3, 4, 5, 6]
    assert np.allclose(episode.obs[:7].mean((1, 2, 3)), 100 + 10 * np.arange(7), atol=1)
    assert np.allclose(episode.action, np.stack([action[:, 0], action[:, 1] / 2 - 1], 1), atol=1e-6)
    trained(tmp_path)


def test_minaris_choices_are_those_of_their_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that nobody chose, too."""
    data = minaris(tmp_path, monkeypatch, done=spaces.Discrete(9, start=2))
    (shard,) = take(tmp_path).shards
    with h5py.File(data / "main_data.hdf5") as file:
        chosen = file["episode_0/actions"][()]
    action = shard.episode(0).action
    assert action.shape == (6, 9) and np.array_equal(action.argmax(1) + 2, chosen) and (action.sum(1) == -7).all()


def test_one_of_minaris_observations_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures lie there as they are."""
    small = spaces.Box(0, 255, (20, 30, 3), np.uint8)
    both = spaces.Dict({"pixels": small, "state": spaces.Box(-1, 1, (3,))})
    seen = {"pixels": [np.full(small.shape, 7, np.uint8)] * 7, "state": [np.zeros(3, np.float32)] * 7}
    same = {"actions": [PEDALS.sample()] * 6, "rewards": [0.0] * 6, "truncations": [False] * 6}
    minaris(tmp_path, monkeypatch, shown=both, observations=seen, terminations=[False] * 6, **same)
    told = r"episode_0: observations are several; .*: --keys obs=observations/pixels, obs=observations/state$"
    with pytest.raises(UserError, match=told):
        take(tmp_path)
    (shard,) = take(tmp_path, "--keys obs=observations/pixels").shards
    assert (shard.episode(0).obs == 7).all()


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"type": "Tuple", "subspaces": []}, "actions are a Tuple; those of Box, Discrete, MultiBinary can be taken"),
        ({"type": "Box", "low": [0, "x"], "high": [1, 1]}, "its bounds are no numbers"),
        ({"type": "Box", "low": [0, 2], "high": [1, 1]}, "its bounds do not fit each other"),
        ({"type": "Box", "low": [0, 0, 0], "high": [1, 1, 1]}, "episode_0: "),
        ({"type": "Box", "low": [0.9, 0], "high": [1, 1]}, "beyond the bounds that their files tell"),
        ({"type": "Discrete", "n": 3, "start": 0}, r"actions are float32 \(6, 2\), where other files have whole"),
        ({"type": "Discrete", "n": 1 << 40, "start": 0}, "action_space holds what it should not"),
        ("nonsense", "metadata.json is damaged: action_space: it is no JSON"),
    ],
)
def test_minaris_actions_that_cannot_be_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: Any, told: str
) -> None:
    path = minaris(tmp_path, monkeypatch) / "metadata.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"action_space": space if space == "nonsense" else json.dumps(space)}))
    with pytest.raises(UserError, match=told):
        take(tmp_path)
    assert not list((tmp_path / "data").rglob("*.h5"))


def test_a_damaged_picture_of_minaris_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(minaris(tmp_path, monkeypatch) / "main_data.hdf5", "a") as file:
        picture = file["episode_1/observations"][3]
        picture[:20] = 0
        file["episode_1/observations"][3] = picture
    with pytest.raises(UserError, match=r"main_data.hdf5 cannot be read \(cannot identify image"):
        take(tmp_path)


def test_minaris_actions_without_bounds_are_scaled_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = minaris(tmp_path, monkeypatch) / "metadata.json"
    about = json.loads(path.read_text())
    told = {"type": "Box", "low": [-np.inf, 0], "high": [1, np.inf]}
    path.write_text(json.dumps(about | {"action_space": json.dumps(told)}))
    with pytest.raises(
        UserError, match=r"episode_0: actions go from .* to .*; scale them to \[-1, 1\], or let --scale-act"
    ):
        take(tmp_path)
    (shard,) = take(tmp_path, "--scale-actions").shards
    all_actions = np.concatenate([shard.episode(at).action for at in range(2)])
    assert (all_actions.min(0) == -1).all() and (all_actions.max(0) == 1).all()


def test_actions_there_and_back_are_the_same() -> None:
    """What a recording's actions become, an environment of that space is given back."""

    class Any_(gymnasium.Env):
        observation_space = PICTURE

    for space in (PEDALS, spaces.Discrete(5, start=3), spaces.MultiBinary(4), spaces.Box(-1e10, 1e10, (2,))):
        env = Any_()
        env.action_space = space
        space.seed(0)
        native = np.stack([space.sample() for _ in range(20)])
        if space == spaces.Box(-1e10, 1e10, (2,)):
            native = native.clip(-1, 1)  # bounds to scale by are narrower
        ours = from_native(native, space)
        assert ours.dtype == np.float32 and np.abs(ours).max() <= 1
        back = np.stack([ImageEnv(env).to_native(action) for action in ours])
        assert np.allclose(back, native, atol=1e-5)


# LeRobot

FPS = 10
LENGTHS = (9, 70, 12)  # more than one portion of pictures
CAMERA = "observation.images.top"


class Robot(NamedTuple):
    """A tiny dataset of LeRobot's."""

    root: Path
    actions: list[np.ndarray]  # of each episode, in degrees


def level(episode: int, frame: int) -> int:
    """How bright a frame is: neighbours and episodes differ."""
    return (3 * frame + 60 * episode) % 240


def robot(folder: Path, version: int, kind: str = "video", **info: Any) -> Robot:
    """Three episodes in version 2 or 3, with one camera that is filmed, or has images in the tables."""
    root = folder / "theirs"
    rng = np.random.default_rng(0)
    actions = [rng.uniform(-90, 90, (length, 2)).astype(np.float32) for length in LENGTHS]
    shape = {"shape": [48, 80, 3], "names": ["height", "width", "channels"]}
    about = {
        "codebase_version": {2: "v2.1", 3: "v3.0"}[version],
        "fps": FPS,
        "chunks_size": 2,
        "features": {
            "action": {"dtype": "float32", "shape": [2], "names": None},
            CAMERA: {"dtype": kind, **shape},
            "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        },
    }
    write(root / "meta/info.json", json.dumps(about | info).encode())
    tables = [rows(number, actions[number], kind) for number in range(len(LENGTHS))]
    films = [[grey(level(number, t)) for t in range(length)] for number, length in enumerate(LENGTHS)]
    if version == 2:
        for number, table in enumerate(tables):
            chunk = f"chunk-{number // 2:03d}"
            table_to(root / f"data/{chunk}/episode_{number:06d}.parquet", table)
            if kind == "video":
                film(root / f"videos/{chunk}/{CAMERA}/episode_{number:06d}.mp4", films[number])
    else:
        table_to(root / "data/chunk-000/file-000.parquet", pyarrow.concat_tables(tables[:2]))
        table_to(root / "data/chunk-000/file-001.parquet", tables[2])
        placed = {
            "episode_index": [0, 1, 2],
            f"videos/{CAMERA}/chunk_index": [0, 0, 0],
            f"videos/{CAMERA}/file_index": [0, 0, 1],
            f"videos/{CAMERA}/from_timestamp": [0.0, LENGTHS[0] / FPS, 0.0],
        }
        table_to(root / "meta/episodes/chunk-000/file-000.parquet", pyarrow.table(placed))
        if kind == "video":
            film(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", films[0] + films[1])
            film(root / f"videos/{CAMERA}/chunk-000/file-001.mp4", films[2])
    return Robot(root, actions)


def rows(number: int, action: np.ndarray, kind: str) -> pyarrow.Table:
    """An episode's part of a table."""
    length = len(action)
    columns: dict[str, Any] = {
        "action": pyarrow.array(list(action), pyarrow.list_(pyarrow.float32(), 2)),
        "next.reward": pyarrow.array(np.arange(length, dtype=np.float32)),
        "next.done": np.arange(length) == length - 1,
        "frame_index": np.arange(length),
        "episode_index": np.full(length, number),
        "timestamp": np.arange(length, dtype=np.float32) / FPS,
    }
    if kind == "image":
        columns[CAMERA] = [{"bytes": png(level(number, t)), "path": f"frame-{t:06d}.png"} for t in range(length)]
    return pyarrow.table(columns)


def png(brightness: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey(brightness)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def table_to(path: Path, table: pyarrow.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def film(path: Path, pictures: list[np.ndarray]) -> None:
    with Film(path, FPS) as film:
        for picture in pictures:
            film.add(picture)


@pytest.mark.parametrize(("version", "kind"), [(2, "video"), (3, "video"), (2, "image"), (3, "image")])
def test_lerobots_episodes_become_rollouts(
    tmp_path: Path, version: int, kind: str, capsys: pytest.CaptureFixture
) -> None:
    """Every frame is the one that its row tells of, wherever in a video it lies."""
    actions = robot(tmp_path, version, kind).actions
    (shard,) = take(tmp_path, "--scale-actions").shards
    assert list(shard.lengths) == [length - 1 for length in LENGTHS] and not shard.terminated.any()
    low, high = np.concatenate(actions).min(0), np.concatenate(actions).max(0)
    for number, action in enumerate(actions):
        episode = shard.episode(number)
        wanted = [level(number, t) for t in range(LENGTHS[number])]
        assert np.abs(episode.obs.mean((1, 2, 3)) - wanted).max() < 1.4
        assert np.allclose(episode.action, (2 * (action - low) / (high - low) - 1)[:-1], atol=1e-5)
        assert np.array_equal(episode.reward, np.arange(len(action) - 1))
    assert "note: actions are scaled: -1 is -8" in capsys.readouterr().out
    if (version, kind) == (3, "video"):
        trained(tmp_path)


def test_an_end_of_lerobots_counts_if_a_person_says_so(tmp_path: Path) -> None:
    robot(tmp_path, 3, "image")
    (shard,) = take(tmp_path, "--scale-actions --keys terminated=next.done").shards
    assert list(shard.lengths) == list(LENGTHS) and shard.terminated.all()


def cut(root: Path) -> None:
    path = root / f"videos/{CAMERA}/chunk-000/file-001.mp4"
    film(path, [grey(0)] * 5)


def no_video(root: Path) -> None:
    (root / f"videos/{CAMERA}/chunk-000/file-001.mp4").unlink()


def no_mp4(root: Path) -> None:
    """What ffmpeg knows, but is no mp4, and leads elsewhere."""
    text = "ffconcat version 1.0\nfile file-000.mp4\n"
    (root / f"videos/{CAMERA}/chunk-000/file-001.mp4").write_text(text)


def no_table(root: Path) -> None:
    (root / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1 nonsense PAR1")


def disorder(root: Path) -> None:
    path = root / "data/chunk-000/file-001.parquet"
    table_to(path, parquet.read_table(path).slice(2))


def no_place(root: Path) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table_to(path, parquet.read_table(path).slice(1))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, r"file-001.mp4 ends after 5 of 12 frames from second 0 on"),
        (no_video, r"file-001.mp4 does not exist"),
        (no_mp4, r"file-001.mp4 cannot be read as a video; replace it"),
        (no_table, r"data/chunk-000/file-001.parquet cannot be read \("),
        (disorder, r"file-001.parquet: the frames of episode 2 are not all there, in order"),
        (no_place, r"meta/episodes does not tell where episode 0 is filmed"),
    ],
)
def test_what_is_damaged_of_lerobots_is_named_and_nothing_is_left(tmp_path: Path, damage: Any, told: str) -> None:
    damage(robot(tmp_path, 3).root)
    with pytest.raises(UserError, match=told):
        take(tmp_path, "--scale-actions")
    assert not list((tmp_path / "data").rglob("*.h5"))


@pytest.mark.parametrize(
    ("info", "words", "told"),
    [
        ({"codebase_version": "v1.6"}, "", "info.json: LeRobot's version v1.6 is not read; versions 2 and 3 are"),
        ({"codebase_version": "v9"}, "", "version v9 is not read"),
        ({"fps": 0}, "", "info.json holds what it should not: fps"),
        ({"features": {}}, "", "its cameras are none; say which to take: --keys obs=CAMERA"),
        ({"features": {one: {"dtype": "video"} for one in ("left", "right")}}, "", "its cameras are left, right; say"),
        ({}, "--keys obs=front", "its cameras are observation.images.top; say which to take"),
        ({"features": {"../..": {"dtype": "video"}}}, "", r"info.json: \.\./\.\. is no name of a camera"),
        ({"chunks_size": 0}, "", "chunks_size is 0; a whole number from 1 on is needed"),
        (
            {},
            "--keys action=moves",
            r"episode_000000.parquet holds no moves, but action, next.reward, .*: --keys action",
        ),
        ({}, "--keys terminated=died", r"holds no died, but action, next.reward, .*: --keys terminated=\.\.\.$"),
        ({}, "", r"episode 0: actions go from .*; scale them to \[-1, 1\], or let --scale-actions do so"),
    ],
)
def test_what_does_not_fit_of_lerobots_is_told(tmp_path: Path, info: dict[str, Any], words: str, told: str) -> None:
    robot(tmp_path, 2, "image", **({"features": {CAMERA: {"dtype": "image"}}} | info))
    with pytest.raises(UserError, match=told):
        take(tmp_path, words)


def test_the_extra_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot(tmp_path, 3, "image")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"there is no pyarrow; .*: pip install 'worldmodels\[recordings\]'"):
        take(tmp_path)


def test_a_folder_may_hold_datasets_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minaris(tmp_path, monkeypatch)
    robot(tmp_path, 3, "image")
    found: Rollouts = take(tmp_path, "--scale-actions")
    assert sorted(length for shard in found.shards for length in shard.lengths) == [6, 7, 8, 11, 69]
