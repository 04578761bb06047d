"""The Distracting Control Suite, held to the published numbers by statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.envs.clips import check_test_clips, read_clips, train_clips
from worldmodels.envs.dcs import DOMAINS, Camera, Colours, Sky, cartesian, least_turned, spherical, upright
from worldmodels.envs.dmc import suite
from worldmodels.settings.envspec import PARTS, STRENGTHS, EnvSpec

TASKS = {"ball_in_cup": "catch", "cartpole": "swingup", "cheetah": "run", "finger": "spin", "reacher": "easy",
         "walker": "walk"}  # fmt: skip
FRAMES = 5
EPISODES = 600
SCALE = 0.3


def write_folders(folder: Path, train: int, test: int) -> Path:
    """Clips as DAVIS has them, folders of pictures: frame t of clip i is all of colour (30 i, 40 t, split)."""
    for split, count, blue in (("train", train, 0), ("test", test, 200)):
        for i in range(count):
            clip = folder / split / f"clip{i}"
            clip.mkdir(parents=True)
            for t in range(FRAMES):
                picture = np.full((6, 9, 3), (30 * i, 40 * t, blue), np.uint8)
                Image.fromarray(picture).save(clip / f"{t:05}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("clips"), train=6, test=4)


def spec(domain: str, *parts: str, **options: Any) -> EnvSpec:
    return EnvSpec(f"dmc:{domain}-{TASKS[domain]}", 2, "dcs", parts=parts or PARTS, **options)  # type: ignore[arg-type]


def physics_of(domain: str) -> Any:
    return suite.load(domain, TASKS[domain], task_kwargs={"random": 0}).physics


def is_uniform(drawn: np.ndarray, low: Any, high: Any) -> None:
    """Rows of independent draws lie in [low, high], reach both ends, and have its mean and standard deviation."""
    width = np.asarray(high) - low
    edge = 12 / len(drawn) * width
    assert (drawn >= low - 1e-6).all() and (drawn <= high + 1e-6).all()
    assert (drawn.min(0) <= low + edge).all() and (drawn.max(0) >= high - edge).all()
    deviation = width / np.sqrt(12)
    assert (np.abs(drawn.mean(0) - (low + width / 2)) <= 5 * deviation / np.sqrt(len(drawn)) + 1e-6).all()
    assert (np.abs(drawn.std(0) - deviation) <= 0.1 * deviation + 1e-6).all()


def test_the_intensities_are_the_suites_own_and_the_benchmarks_between() -> None:
    assert list(STRENGTHS.values()) == [
        (0.025, 2), (0.05, 2), (0.1, 4), (0.15, 6), (0.2, 8), (0.3, None), (0.4, None), (0.5, None)
    ]  # fmt: skip
    assert [STRENGTHS[name].scale for name in ("easy", "medium", "hard")] == [0.1, 0.2, 0.3]


def test_colours_begin_uniform_about_their_own() -> None:
    model = physics_of("walker").model.ptr
    own = model.mat_rgba.copy()
    colours = Colours(model, SCALE, moves=False)
    drawn = []
    for seed in range(EPISODES):
        colours.begin(np.random.default_rng(seed), None)
        drawn.append(model.mat_rgba.copy())
    colours.step(None)
    assert np.array_equal(model.mat_rgba, drawn[-1])  # static
    low, high = (np.clip(own[:, :3] + sign * SCALE, 0, 1) for sign in (-1, 1))
    is_uniform(np.stack(drawn)[..., :3], low, high)
    assert (np.stack(drawn)[..., 3] == own[:, 3]).all()


def test_colours_wander_within_their_range() -> None:
    model = physics_of("walker").model.ptr
    own = model.mat_rgba[:, :3].astype(float)
    colours = Colours(model, SCALE, moves=True)
    colours.begin(np.random.default_rng(1), None)
    walk = []
    for _ in range(3000):
        colours.step(None)
        walk.append(model.mat_rgba[:, :3].astype(float))
    seen = np.stack(walk)
    low, high = (np.clip(own + sign * SCALE, 0, 1) for sign in (-1, 1))
    assert (seen >= low - 1e-6).all() and (seen <= high + 1e-6).all()
    inside = (seen[:-1] > low + 0.05) & (seen[:-1] < high - 0.05)  # 5 standard deviations from either end
    steps = np.diff(seen, axis=0)[inside]
    assert abs(steps.std() / (0.03 * SCALE) - 1) < 0.02 and abs(steps.mean()) < 1e-3
    assert (np.ptp(seen, axis=0) > 0.4 * (high - low)).all()  # and go far


class Seen:
    """A camera and what can be read off MuJoCo of it, with the task's own beside."""

    def __init__(self, domain: str, scale: float, moves: bool) -> None:
        self.physics = physics_of(domain)
        self.data = self.physics.data.ptr
        self.model = self.physics.model.ptr
        self.physics.forward()
        self.is_fixed = domain not in ("walker", "cheetah")
        self.com = self.data.subtree_com[1].copy()
        self.centre = np.zeros(3) if self.is_fixed else self.com
        place = self.data.cam_xpos[0].copy()
        self.own = spherical(place - self.centre)
        self.point = place - self.data.cam_xmat[0].reshape(3, 3)[:, 2] * np.linalg.norm(place - self.com)
        self.camera = Camera(self.model, 0, scale, moves, upright=domain != "reacher")

    def begin(self, seed: int) -> "Seen":
        self.physics.forward()  # as a reset leaves it
        self.camera.begin(np.random.default_rng(seed), self.data)
        return self

    def step(self) -> "Seen":
        self.physics.forward()
        self.camera.step(self.data)
        return self

    @property
    def place(self) -> np.ndarray:
        return spherical(self.data.cam_xpos[0] - self.centre)

    @property
    def turn(self) -> np.ndarray:
        return self.data.cam_xmat[0].reshape(3, 3).copy()

    @property
    def roll(self) -> float:
        """How far it is rolled, from the horizon if it is upright."""
        ahead = -self.turn[:, 2]
        level = (upright if self.camera._upright else least_turned)(ahead)
        unrolled = level.T @ self.turn
        return float(np.arctan2(unrolled[1, 0], unrolled[0, 0]))


def beginnings(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Where episodes begin, (EPISODES, 3), and how far rolled; in each the camera looks at its point."""
    places, rolls = [], []
    for seed in range(EPISODES):
        seen.begin(seed)
        places.append(seen.place)
        rolls.append(seen.roll)
        ahead = seen.point - seen.data.cam_xpos[0]
        assert np.allclose(-seen.turn[:, 2], ahead / np.linalg.norm(ahead), atol=1e-6)
        assert np.allclose(seen.turn @ seen.turn.T, np.eye(3), atol=1e-6) and np.linalg.det(seen.turn) > 0
    return np.stack(places), np.array(rolls)


@pytest.mark.parametrize("domain", ["walker", "cartpole", "finger", "ball_in_cup"])
def test_a_camera_begins_uniform_about_its_own_place_and_looks_at_its_point(domain: str) -> None:
    seen = Seen(domain, SCALE, moves=False)
    places, rolls = beginnings(seen)
    reach = np.pi / 2 * SCALE
    radius, azimuth, zenith = seen.own
    low = [radius * (1 - 0.5 * SCALE), max(azimuth - reach, -np.pi), max(zenith - reach, 0)]
    high = [radius * (1 + 1.5 * SCALE), min(azimuth + reach, 0), min(zenith + reach, np.pi / 2)]
    is_uniform(places, np.array(low), np.array(high))
    is_uniform(rolls, -reach, reach)
    before = seen.place, seen.roll
    seen.step()
    assert np.allclose(before[0], seen.place) and np.isclose(before[1], seen.roll)  # static


def test_a_camera_from_the_side_stays_in_the_upper_quadrant() -> None:
    """Half of the cheetah's range would lie below: its camera is nearly level."""
    seen = Seen("cheetah", SCALE, moves=False)
    zeniths = np.array([seen.begin(seed).place[2] for seed in range(EPISODES)])
    reach = np.pi / 2 * SCALE
    assert seen.own[2] + reach > np.pi / 2 + 0.3
    is_uniform(zeniths, seen.own[2] - reach, np.pi / 2)
    wide = Seen("cheetah", 1.0, moves=True).begin(0)
    places = np.stack([wide.step().place for _ in range(1500)])
    assert places[:, 2].min() >= 0 and places[:, 2].max() <= np.pi / 2 + 1e-6
    assert places[:, 1].min() >= -np.pi - 1e-6 and places[:, 1].max() <= 1e-6
    assert np.ptp(places[:, 1]) > 2 and np.ptp(places[:, 2]) > 1  # and wanders through it


def test_reachers_camera_looks_down_by_the_shortest_turn() -> None:
    seen = Seen("reacher", SCALE, moves=False)
    reach = np.pi / 2 * SCALE
    drawn, rolls = beginnings(seen)
    is_uniform(drawn[:, [0, 2]], np.array([0.75 * (1 - 0.5 * SCALE), 0]), np.array([0.75 * (1 + 1.5 * SCALE), reach]))
    assert np.abs(drawn[:, 1]).max() <= reach + 1e-6
    is_uniform(rolls, -reach, reach)


@pytest.mark.parametrize("domain", ["walker", "reacher", "cartpole"])
def test_a_camera_wanders_within_its_limits_and_below_its_speed(domain: str) -> None:
    seen = Seen(domain, SCALE, moves=True).begin(3)
    places, rolls = [seen.place], [seen.roll]
    for _ in range(1500):
        seen.step()
        places.append(seen.place)
        rolls.append(seen.roll)
        moved = cartesian(places[-1]) - cartesian(places[-2])
        assert np.allclose(seen.camera._velocity, moved, atol=1e-6)  # after a limit, what was moved is the velocity
        ahead = seen.point - seen.data.cam_xpos[0]
        assert np.allclose(-seen.turn[:, 2], ahead / np.linalg.norm(ahead), atol=1e-6)
    walk, radius = np.stack(places), seen.own[0]
    reach = np.pi / 2 * SCALE
    assert walk[:, 0].min() >= radius * (1 - 0.5 * SCALE) - 1e-6
    assert walk[:, 0].max() <= radius * (1 + 1.5 * SCALE) + 1e-6
    assert (np.abs(walk[:, 1:] - seen.own[1:]) <= reach + 1e-6).all() and np.abs(rolls).max() <= reach + 1e-6
    speeds = np.linalg.norm(np.diff([cartesian(place) for place in walk], axis=0), axis=1)
    most = 0.4 * SCALE * radius / 4
    assert np.median(speeds) > 0.3 * most
    if domain != "reacher":  # near its zenith a limit of the azimuth is a leap
        assert speeds.max() <= most * 1.001
    assert np.abs(np.diff(rolls)).max() <= np.pi / 50 * SCALE + 1e-6 and np.ptp(rolls) > 0.5 * reach
    assert np.ptp(walk[:, 0]) > 0.5 * SCALE * radius and np.ptp(walk[:, 2]) > 0.3 * reach


class Begun(Camera):
    """A camera before its first step."""

    def step(self, data: Any) -> None: ...


def test_velocities_begin_and_are_shaken_as_published() -> None:
    physics = physics_of("walker")
    physics.forward()
    camera = Begun(physics.model.ptr, 0, SCALE, True, True)
    speeds, directions, rolls, shaken, rolled = [], [], [], [], []
    for seed in range(2000):
        camera.begin(np.random.default_rng(seed), physics.data.ptr)
        speeds.append(np.linalg.norm(camera._velocity))
        directions.append(camera._velocity / speeds[-1])
        rolls.append(camera._roll_velocity)
        camera._velocity, camera._roll_velocity = np.zeros(3), 0.0
        camera._shake()
        shaken.append(camera._velocity)
        rolled.append(camera._roll_velocity)
    is_uniform(np.array(speeds), 0, 0.4 * SCALE)
    is_uniform(np.array(rolls), -np.pi / 50 * SCALE, np.pi / 50 * SCALE)
    assert np.abs(np.mean(directions, 0)).max() < 0.06 and np.abs(np.std(directions, 0) - 3**-0.5).max() < 0.03
    size = np.linalg.norm(physics.data.cam_xpos[0] - physics.data.subtree_com[1]) / 4
    assert (np.abs(np.std(shaken, 0) / (0.1 * SCALE * size) - 1) < 0.06).all()
    assert abs(np.std(rolled) / (np.pi / 300 * SCALE) - 1) < 0.06
    camera._velocity, camera._roll_velocity = np.array([9.0, 0, 0]), 9.0
    camera._shake()
    assert np.isclose(np.linalg.norm(camera._velocity), 0.4 * SCALE * size)
    assert np.isclose(camera._roll_velocity, np.pi / 50 * SCALE)


def test_a_camera_follows_the_centre_of_mass_where_the_tasks_own_does() -> None:
    for domain, follows in (("walker", True), ("cartpole", False)):
        seen = Seen(domain, SCALE, moves=False).begin(0)
        before = seen.data.cam_xpos[0].copy()
        seen.physics.data.qpos[1 if domain == "walker" else 0] += 0.7  # sideways
        moved = seen.step().data.cam_xpos[0] - before
        assert np.allclose(moved, [0.7 * follows, 0, 0], atol=1e-6)


def test_turns_are_turns_that_look_ahead() -> None:
    for ahead in np.random.default_rng(0).normal(size=(200, 3)):
        unit = ahead / np.linalg.norm(ahead)
        for turn in (upright(ahead), least_turned(ahead)):
            assert np.allclose(turn.T @ turn, np.eye(3)) and np.isclose(np.linalg.det(turn), 1)
            assert np.allclose(-turn[:, 2], unit)
        assert abs(upright(ahead)[2, 0]) < 1e-12 and upright(ahead)[2, 1] >= 0  # its right is level, its up is not down
        angle = np.arccos((np.trace(least_turned(ahead)) - 1) / 2)
        assert np.isclose(angle, np.arccos(-unit[2]))  # no more than from straight down to there
        assert np.allclose(cartesian(spherical(ahead)), ahead)


def frames_of(model: Any) -> tuple[int, int, int]:
    """The colour that the sky has all over."""
    texture = model.texture("skybox").id
    side = model.tex_width[texture]
    start = model.tex_adr[texture]
    faces = model.tex_data[start : start + side * side * 3].reshape(-1, 3)
    assert side == model.tex_height[texture] == 128 and (faces == faces[0]).all()
    return tuple(int(x) for x in faces[0])  # type: ignore[return-value]


def test_a_sky_begins_at_any_frame_of_any_clip_and_goes_to_and_fro(folders: Path) -> None:
    model = physics_of("walker").model.ptr
    clips = read_clips(spec("walker", "background", videos=str(folders), intensity="easy"))
    assert [clip.shape for clip in clips] == [(FRAMES, 128, 128, 3)] * 4  # the first four of six
    assert len(read_clips(spec("walker", "background", videos=str(folders), intensity="hard"))) == 6
    sky = Sky(model, clips, moves=True)
    begun, went = set(), set()
    for seed in range(200):
        sky.begin(np.random.default_rng(seed), None)
        red, green, _ = frames_of(model)
        begun.add((red // 30, green // 40))
        at = [green // 40]
        for _ in range(2 * FRAMES):
            sky.step(None)
            assert frames_of(model)[0] == red
            at.append(frames_of(model)[1] // 40)
        assert set(np.abs(np.diff(at))) == {1} and set(at) == set(range(FRAMES))
        if 0 < at[0] < FRAMES - 1:  # not turned round at once
            went.add(at[1] - at[0])
    assert begun == {(i, t) for i in range(4) for t in range(FRAMES)} and went == {-1, 1}
    still = Sky(model, clips, moves=False)
    still.begin(np.random.default_rng(0), None)
    before = frames_of(model)
    still.step(None)
    assert frames_of(model) == before


def test_tests_show_other_clips_and_never_those_that_v_was_trained_before(folders: Path) -> None:
    asked = spec("walker", "background", videos=str(folders))
    assert {int(clip[0, 0, 0, 2]) for clip in read_clips(asked)} == {0}
    assert {int(clip[0, 0, 0, 2]) for clip in read_clips(asked.tested())} == {200}
    known = train_clips(asked)
    assert len(known) == 4 and all(path.parent.name == "train" for path in known.values())
    check_test_clips(asked, known)
    with pytest.raises(UserError, match="is for tests, but V was trained in front of it"):
        check_test_clips(asked, {*known, *train_clips(spec("walker", "background", videos=swapped(folders)))})


def swapped(folders: Path) -> str:
    other = folders.parent / "swapped"
    other.mkdir()
    (other / "train").symlink_to(folders / "test")
    (other / "test").symlink_to(folders / "train")
    return str(other)


@pytest.mark.parametrize(("domain", "opaque"), [("reacher", 0), ("cheetah", 1), ("finger", 0.3)])
def test_the_video_is_the_sky_behind_a_floor_as_opaque_as_published(domain: str, opaque: float, folders: Path) -> None:
    env = make_env(spec(domain, "background", videos=str(folders)).tested())
    obs, _ = env.reset(seed=1)
    suite_env = env.unwrapped
    assert np.isclose(suite_env._model.mat_rgba[suite_env._model.material("grid").id, 3], opaque)  # type: ignore[attr-defined]
    colour = frames_of(suite_env._model)  # type: ignore[attr-defined]
    env.close()
    sky = (np.abs(obs.astype(int) - colour).max(-1) < 8).mean()
    assert sky > (0.5 if domain == "reacher" else 0.1)


def film(env: Any, seed: int, steps: int = 4) -> np.ndarray:
    obs = [env.reset(seed=seed)[0]]
    obs += [env.step(np.full(env.action_space.shape, 0.3, np.float32))[0] for _ in range(steps)]
    return np.stack(obs)


def test_the_same_seed_is_the_same_episode_whatever_was_played_before(folders: Path) -> None:
    env = make_env(spec("walker", videos=str(folders)))
    first = film(env, 7)
    film(env, 8, steps=9)
    assert np.array_equal(film(env, 7), first) and not np.array_equal(film(env, 8), first)
    env.close()
    again = make_env(spec("walker", videos=str(folders)))
    assert np.array_equal(film(again, 7), first)
    again.close()


def test_each_part_is_the_same_whether_others_distract_or_not() -> None:
    poses = []
    for parts in (("camera",), ("camera", "colour")):
        env = make_env(spec("finger", *parts))
        film(env, 5)
        poses.append(env.unwrapped._data.cam_xpos[0].copy())  # type: ignore[attr-defined]
        env.close()
    assert np.array_equal(*poses)


def test_only_what_is_seen_changes_and_static_is_still() -> None:
    played = {}
    for name, asked in (("clean", EnvSpec("dmc:cartpole-swingup", 2)), ("dcs", spec("cartpole", "camera", "colour")),
                        ("static", spec("cartpole", "camera", "colour", static=True))):  # fmt: skip
        env = make_env(asked, truth=True)
        env.reset(seed=2)
        steps = [env.step(np.zeros(1, np.float32)) for _ in range(5)]
        camera = env.unwrapped._data.cam_xpos[0].copy()  # type: ignore[attr-defined]
        env.step(np.zeros(1, np.float32))
        moved = np.abs(env.unwrapped._data.cam_xpos[0] - camera).max()  # type: ignore[attr-defined]
        played[name] = steps, moved
        env.close()
    clean, distracted = played["clean"][0], played["dcs"][0]
    for (seen, paid, *_, told), (seen_too, paid_too, *_, told_too) in zip(clean, distracted, strict=True):
        assert paid == paid_too and all(np.array_equal(told["truth"][k], told_too["truth"][k]) for k in told["truth"])
        assert np.abs(seen.astype(int) - seen_too).mean() > 1
    assert played["dcs"][1] > 1e-4 and played["static"][1] < 1e-9


def test_an_action_that_is_repeated_takes_as_many_steps(folders: Path) -> None:
    env = make_env(spec("walker", "background", videos=str(folders)))
    env.reset(seed=0)
    sky = env.unwrapped._distraction._parts["background"]  # type: ignore[attr-defined]
    sky._frame, sky._direction = 0, 1
    env.step(np.zeros(6, np.float32))
    assert sky._frame == 2
    env.close()


def test_what_cannot_be_distracted_from_is_told(folders: Path) -> None:
    with pytest.raises(
        UserError, match=r"--distractor dcs is for ball_in_cup, .* of dm_control, and not for quadruped"
    ):
        make_env(EnvSpec("dmc:quadruped-walk", 2, "dcs", parts=("camera",)))
    with pytest.raises(UserError, match="--distractor dcs is for dmc environments, and not for --env doom"):
        make_env(EnvSpec("doom", 1, "dcs", parts=("camera",)))
    with pytest.raises(UserError, match=r"--distractor dcs needs --distractor-videos DIR .*--dcs-parts camera colour"):
        make_env(spec("walker", "background"))
    with pytest.raises(
        UserError, match=r"--dcs-intensity 0\.15 shows 6 test clips, and --distractor-videos .* holds 4"
    ):
        make_env(spec("walker", "background", videos=str(folders), intensity="0.15"))
    assert set(TASKS) == set(DOMAINS)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, 2, 2)
    (folder / "train" / "clip1" / "00002.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"clip1/00002\.png could not be read as a picture"):
        make_env(spec("walker", "background", videos=str(folder), intensity="0.05"))


def test_labels_and_folder_names_tell_them_apart() -> None:
    assert spec("walker", "camera", "colour", "background").label == "dmc:walker-walk x2 + dcs easy"
    some = spec("walker", "colour", "camera", intensity="0.025", static=True)
    assert some.label == "dmc:walker-walk x2 + dcs 0.025 camera colour static"
    assert some.slug == "walker-walk-dcs-0.025-camera-colour-static"
    assert EnvSpec(**some.plain()) == some and some.plain()["parts"] == ["camera", "colour"]
    assert EnvSpec("doom", intensity="hard", static=True).label == "doom"
