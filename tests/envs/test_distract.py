import re
import shutil
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.envs.clips import check_test_clips, split_clips, train_clips
from worldmodels.envs.distract import PAN, background
from worldmodels.settings.envspec import EnvSpec

LEVELS = (20, 200, 80, 140)
CLIPS = Path(__file__).parents[3] / "shared" / "distractor_videos"


def write_clip(path: Path, level: int, frames: int = 12) -> None:
    """A clip whose frame t is grey of `level` + 4t, at a size that must be changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = "libvpx" if path.suffix == ".webm" else "libx264"
    writer = imageio_ffmpeg.write_frames(str(path), (96, 80), fps=25, quality=9, macro_block_size=2, codec=codec)
    writer.send(None)
    for t in range(frames):
        writer.send(np.full((80, 96, 3), level + 4 * t, np.uint8))
    writer.close()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for i, level in enumerate(LEVELS):
        write_clip(tmp_path / f"clip{i}.mp4", level)
    return tmp_path


def spec(env: str, distractor: str, folder: Path | str = "", **options: object) -> EnvSpec:
    return EnvSpec(env, 2 if env.startswith("dmc") else 1, distractor, str(folder), **options)  # type: ignore[arg-type]


def pictures(made: EnvSpec, seed: int = 0, count: int = 30) -> np.ndarray:
    behind = background(made)
    assert behind is not None
    behind.begin(np.random.default_rng(seed))
    return np.stack([behind.picture(64, 64) for _ in range(count)]).astype(int)


def test_a_video_goes_on_frame_by_frame_and_from_clip_to_clip(clips: Path) -> None:
    shown = pictures(spec("doom", "video", clips), seed=3, count=40)
    level = shown.mean((1, 2, 3))
    steps = np.diff(level)
    assert ((abs(steps - 4) < 3) | (abs(steps) > 10)).all() and (abs(steps) > 10).sum() >= 3  # 12 frames per clip
    assert not ((level > LEVELS[3] - 3) & (level < LEVELS[3] + 47)).any()  # the fourth clip is for tests
    tests = pictures(spec("doom", "video", clips).tested()).mean((1, 2, 3))
    assert tests.min() > LEVELS[3] - 3 and tests.max() < LEVELS[3] + 47


def test_clips_in_train_and_test_folders_or_split_by_name(clips: Path, tmp_path: Path) -> None:
    assert [p.name for p in split_clips(clips)["test"]] == ["clip3.mp4"] and len(split_clips(clips)["train"]) == 3
    for i, split in enumerate(("train", "test")):
        write_clip(clips / "own" / split / "a.mp4", 30 * i)
    assert {k: [p.parent.name for p in v] for k, v in split_clips(clips / "own").items()} == {
        "train": ["train"], "test": ["test"]
    }  # fmt: skip


def test_clips_lie_in_sub_folders_and_are_what_ffmpeg_reads(tmp_path: Path) -> None:
    names = ["a/1.MP4", "a/deep/2.avi", "3.webm", "b/4.mov", "b/5.mkv"]
    for i, name in enumerate(names):
        write_clip(tmp_path / "split" / "train" / name, 20 + 40 * i)
        write_clip(tmp_path / "named" / name, 20 + 40 * i)
    write_clip(tmp_path / "split" / "test" / "own" / "t.webm", 220, frames=3)
    (tmp_path / "split" / "train" / "notes.txt").write_text("whence they come")
    found = split_clips(tmp_path / "split")
    assert {p.name for p in found["train"]} == {Path(name).name for name in names}
    assert [p.name for p in found["test"]] == ["t.webm"]
    levels = pictures(spec("doom", "video", tmp_path / "split"), count=60).mean((1, 2, 3))  # all are read: five of 12
    for i in range(len(names)):
        assert (abs(levels - (20 + 40 * i)) < 4).any()
    named = split_clips(tmp_path / "named")
    assert len(named["train"]) == 4 and [p.name for p in named["test"]] == ["5.mkv"]  # the last by name


def test_who_finds_no_clip_is_told_what_is_needed_and_what_is_there(tmp_path: Path) -> None:
    for name in ("walk.gif", "train/notes.txt", "train/deep/a.mp3"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    write_clip(tmp_path / "test" / "a.mp4", 20)
    there = "there: test/a.mp4, train/deep/a.mp3, train/notes.txt, walk.gif"
    with pytest.raises(UserError, match=r"no train clips; needed: \.mp4 \.avi .*; " + re.escape(there)):
        split_clips(tmp_path)
    with pytest.raises(UserError, match=r"no train clips; .*; there is no such folder"):
        split_clips(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no train clips; .*; there is no file"):
        split_clips(tmp_path / "empty")


def test_a_clip_in_both_splits_is_refused(clips: Path) -> None:
    for split, name in (("train", "a.mp4"), ("test", "renamed.mp4")):
        (clips / "both" / split).mkdir(parents=True)
        shutil.copy(clips / "clip0.mp4", clips / "both" / split / name)
    with pytest.raises(UserError, match=r"renamed\.mp4 and .*a\.mp4 are the same clip"):
        make_env(spec("doom", "video", clips / "both"))


def test_a_test_clip_that_v_was_trained_before_is_refused(clips: Path) -> None:
    known = train_clips(spec("doom", "video", clips))
    assert len(known) == 3
    check_test_clips(spec("doom", "video", clips), known)
    write_clip(clips / "clip4.mp4", 60)  # now clip3 trains, clip4 tests
    check_test_clips(spec("doom", "video", clips), known)
    (clips / "clip4.mp4").rename(clips / "a.mp4")
    (clips / "clip3.mp4").unlink()  # now clip2, of which V learnt, would be for tests
    with pytest.raises(UserError, match=r"clip2\.mp4 is (for tests|a test clip), but V was trained in front of it"):
        check_test_clips(spec("doom", "video", clips), known)
    assert not train_clips(spec("doom", "noise"))


def test_missing_and_damaged_clips_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --distractor-videos DIR"):
        background(spec("doom", "video"))
    with pytest.raises(UserError, match="holds no train clips"):
        background(spec("doom", "video", tmp_path))
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(b"no video at all" + name.encode())
    with pytest.raises(UserError, match=r"a\.mp4 could not be read as a video"):
        background(spec("doom", "video", tmp_path))


@pytest.mark.skipif(not CLIPS.is_dir(), reason="shared/distractor_videos is not here")
def test_the_benchmarks_clips_are_disjoint_and_move_like_videos() -> None:
    found = split_clips(CLIPS)
    assert len(found["train"]) == 8 and len(found["test"]) == 4
    shown = pictures(spec("doom", "video", CLIPS), count=100)
    assert 1 < np.abs(np.diff(shown, axis=0)).mean((1, 2, 3)).mean() < 20  # grey levels per frame (HRSSM section 9)
    assert (shown[..., 0] == shown[..., 1]).all()  # grey
    colour = pictures(spec("doom", "video", CLIPS, colour=True), count=5)
    assert (colour[..., 0] != colour[..., 1]).any()


def test_stills_are_panned_slowly_and_differ_between_splits() -> None:
    shown = pictures(spec("doom", "stills"), count=200)
    moved = np.abs(np.diff(shown, axis=0)).mean((1, 2, 3))
    assert 0 < moved.mean() < 15 and PAN == 0.5
    first = {split: {p.tobytes() for p in (pictures(EnvSpec("doom", 1, "stills", split=split), seed=s, count=1)
                                           for s in range(20))} for split in ("train", "test")}  # fmt: skip
    assert not first["train"] & first["test"]


def test_noise_is_noise() -> None:
    shown = pictures(spec("doom", "noise"))
    assert abs(shown.mean() - 127.5) < 1 and (shown[..., 0] == shown[..., 1]).all()
    assert abs(np.corrcoef(shown[0].ravel(), shown[1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("env", ["doom", "carracing", "dmc:reacher-easy"])
def test_only_the_background_differs_and_the_game_goes_on_as_ever(env: str) -> None:
    """Same seed and actions: same rewards, and the same pixels wherever something stands."""
    played = {}
    for kind in ("none", "noise"):
        made = make_env(spec(env, kind))
        obs, rewards = [made.reset(seed=5)[0]], []
        size = made.action_space.shape[0]
        for t in range(25):
            seen, reward, *_ = made.step(np.full(size, np.sin(t / 3), np.float32))
            obs.append(seen)
            rewards.append(reward)
        made.close()
        played[kind] = np.stack(obs).astype(int), rewards
    (clean, paid), (noisy, paid_too) = played["none"], played["noise"]
    assert paid == paid_too
    same = (clean == noisy).all(-1).mean()
    replaced = (np.abs(clean - noisy).max(-1) > 8).mean()
    assert replaced > 0.3 and (env.startswith("dmc") or same > 0.02)  # in the suite shadows on what stays may differ


@pytest.mark.parametrize("env", ["doom", "carracing", "dmc:reacher-easy"])
def test_the_same_seed_shows_the_same_background_whatever_was_played_before(env: str) -> None:
    made = make_env(spec(env, "stills"))
    films = []
    for warm_up in (0, 7):
        made.reset(seed=9)
        for _ in range(warm_up):
            made.step(np.zeros(made.action_space.shape[0], np.float32))
        obs = [made.reset(seed=4)[0]]
        obs += [made.step(np.zeros(made.action_space.shape[0], np.float32))[0] for _ in range(5)]
        films.append(np.stack(obs))
    made.close()
    assert np.array_equal(*films)


@pytest.mark.parametrize("env", ["doom", "carracing", "dmc:reacher-easy"])
def test_unseeded_resets_follow_from_the_first_seed(env: str) -> None:
    firsts = []
    for _ in range(2):
        made = make_env(spec(env, "stills"))
        made.reset(seed=3)
        firsts.append(made.reset()[0])
        made.close()
    assert np.array_equal(*firsts)


def test_who_cannot_tell_background_from_foreground_is_told_so() -> None:
    with pytest.raises(UserError, match="--distractor noise: --env ALE/Pong-v5 cannot tell background from foreground"):
        make_env(spec("ALE/Pong-v5", "noise"))


def test_labels_and_folder_names_tell_settings_apart() -> None:
    assert EnvSpec("dmc:walker-walk", 2, "video", colour=True).label == "dmc:walker-walk x2 + colour video"
    assert EnvSpec("dmc:walker-walk", 2, "video").slug == "walker-walk-video" and EnvSpec("doom").label == "doom"
    assert EnvSpec("dmc:walker-walk", 4, "video", colour=True).slug == "walker-walk-x4-colour-video"
    assert EnvSpec("doom", videos="here").label == EnvSpec("doom", videos="there", split="test").label
