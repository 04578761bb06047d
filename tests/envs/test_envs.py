import os
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from tests.conftest import descendants
from worldmodels.acting.agents import BlindAgent
from worldmodels.acting.rollout import rollout
from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.envs.images import ImageEnv, as_authors, to_obs
from worldmodels.settings.envspec import EnvSpec


@pytest.fixture(scope="module")
def doom():
    env = make_env("doom")
    yield env
    env.close()


@pytest.fixture(scope="module")
def carracing():
    env = make_env(EnvSpec("carracing"))  # an action for each frame
    yield env
    env.close()


def play(env: gymnasium.Env, seed: int, actions: list[float]) -> tuple[np.ndarray, np.ndarray]:
    obs, rewards = [env.reset(seed=seed)[0]], []
    for value in actions:
        seen, reward, terminated, truncated, _ = env.step(np.full(env.action_space.shape, value, np.float32))
        obs.append(seen)
        rewards.append(reward)
        if terminated or truncated:
            break
    return np.stack(obs), np.array(rewards)


@pytest.mark.parametrize("name", ["doom", "carracing"])
def test_spaces_and_determinism(name: str, request: pytest.FixtureRequest) -> None:
    env = request.getfixturevalue(name)
    actions = list(np.sin(np.arange(90) / 7))
    obs, rewards = play(env, 5, actions)
    assert obs.dtype == np.uint8 and obs.shape[1:] == (64, 64, 3)
    assert env.observation_space.contains(obs[0]) and env.action_space.contains(np.zeros(env.action_space.shape, "f4"))
    again, rewards_again = play(env, 5, actions)
    assert np.array_equal(obs, again) and np.array_equal(rewards, rewards_again)
    other, _ = play(env, 6, actions)
    assert not np.array_equal(obs, other)


def test_the_authors_pixels_are_those_of_their_published_frames() -> None:
    """CLASSIC 1.1: what frames hold whose brightest pixel is light grass, and those with a white kerb."""
    grass = {204: 226, 229: 254, 102: 113, 0: 255}
    kerb = {204: 203, 229: 228, 102: 101, 0: 255}
    for brightest, seen in ((229, grass), (255, kerb)):
        levels = [*seen, brightest]
        picture = np.repeat(np.array(levels, np.uint8), 64)[None, :, None].repeat(84, 0).repeat(3, 2)
        small = as_authors(picture)
        assert small.shape == (64, 64, 3) and small.dtype == np.uint8
        middles = [round((at + 0.5) * 64 / len(levels)) for at in range(len(seen))]
        assert [int(small[32, at, 0]) for at in middles] == list(seen.values())
    assert (as_authors(np.full((84, 96, 3), 7, np.uint8)) == 255).all()  # of one colour: dark, and so white


def test_the_authors_pixels_equal_those_of_their_own_steps() -> None:
    picture = np.random.default_rng(0).integers(20, 200, (400, 640, 3), np.uint8)
    levels = (picture / 255 - picture.min() / 255) * 255 / (np.ptp(picture) / 255)  # scipy's bytescale
    spread = (levels.clip(0, 255) + 0.5).astype(np.uint8)
    small = np.array(Image.fromarray(spread).resize((64, 64), Image.Resampling.BILINEAR), np.float64)
    theirs = ((1.0 - small) * 255).round().astype(np.int64) % 256
    assert np.abs(as_authors(picture).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("name", ["doom", "carracing"])
def test_an_environment_shows_the_authors_pixels_if_asked(name: str, request: pytest.FixtureRequest) -> None:
    env = make_env(EnvSpec(name, authors_pixels=True))
    actions = [0.3] * 60
    obs, rewards = play(env, 5, actions)
    plain, same = play(request.getfixturevalue(name), 5, actions)
    assert obs.shape == plain.shape and np.array_equal(rewards, same)  # only what is shown differs
    assert not np.array_equal(obs[-1], plain[-1])
    if name == "doom":
        assert env.render().shape == (400, 640, 3) and np.array_equal(as_authors(env.render()), obs[-1])
    else:
        road = [int((np.ptp(frame[44].astype(int), 1) < 12).sum()) for frame in (obs[55], plain[55])]
        assert 0 < road[0] < road[1]  # their camera sees more
    env.close()
    with pytest.raises(UserError, match="--authors-pixels: the authors of World Models had no --env dmc:walker-walk"):
        make_env(EnvSpec("dmc:walker-walk", 2, authors_pixels=True))


def test_doom_steps_left_below_a_third_right_above_and_stays_between(doom: gymnasium.Env) -> None:
    """The player looks along x, as monsters ahead tell, so that left is where y grows."""

    def place(value: float) -> float:
        env.reset(seed=3)
        for _ in range(30):
            truth = env.step(np.array([value], np.float32))[-1]["truth"]
        return float(truth["place"][0])

    env = make_env("doom", truth=True)
    still, left, right = (place(value) for value in (0.33, -0.34, 0.34))
    env.close()
    assert left > still + 50 and right < still - 50
    stay, step_left, step_right = (play(doom, 3, [value] * 30)[0] for value in (0.33, -0.34, 0.34))
    for same, other in ((stay, -0.33), (step_left, -1.0), (step_right, 1.0)):
        assert np.array_equal(same, play(doom, 3, [other] * 30)[0])


def test_doom_tells_of_the_nearest_fireball_where_there_is_one() -> None:
    env = make_env("doom", truth=True)
    env.reset(seed=5)
    told = []
    for _ in range(115):  # one who stands still is met by the first fireball
        truth = env.step(np.zeros(1, np.float32))[-1]["truth"]
        told.append({name: float(value[0]) for name, value in truth.items()})
    env.close()
    assert told[0]["monsters"] == 3 and told[0]["fireballs"] == 0
    assert np.isnan([value for name, value in told[0].items() if "fireball " in name]).all()
    flight = [row for row in told if row["fireballs"]]
    ahead = [row["fireball distance"] for row in flight]
    assert np.all(np.diff(ahead) < 0) and ahead[0] > 400 and ahead[-1] < 60
    for row in flight:
        for name in ("fireball distance", "fireball offset"):
            near = row[name] if row["fireball distance"] <= 400 else np.nan
            assert np.array_equal(row[f"near {name}"], near, equal_nan=True)
    assert abs(flight[-1]["fireball offset"]) < 20  # it was thrown at the player


def test_doom_pays_one_per_tic_and_death_terminates(doom: gymnasium.Env) -> None:
    obs, rewards = play(doom, 11, [0.0] * 2100)
    assert (rewards == 1).all() and len(rewards) < 2100  # standing still, one dies
    assert np.array_equal(obs[-1], obs[-2]) and obs[-1].any()  # after death the game shows nothing; we show the last


def test_doom_truncates_at_its_timeout() -> None:
    env = make_env("doom", timeout=40)
    env.reset(seed=0)
    steps = 0
    while True:
        *_, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        steps += 1
        if terminated or truncated:
            break
    env.close()
    assert truncated and not terminated and 38 <= steps <= 40


def test_doom_shows_no_status_bar_and_leaves_no_files(doom: gymnasium.Env) -> None:
    obs, _ = play(doom, 3, [0.0] * 5)
    floor = obs[-1][-6:].astype(int)  # the bar is red digits on grey; the floor is grey alone
    assert (floor.max(-1) - floor.min(-1)).max() < 40
    assert not [name for name in os.listdir() if "vizdoom" in name.lower()]


def test_doom_engine_dies_with_its_process_even_by_kill_9() -> None:
    code = (
        "from worldmodels.envs import make_env; e = make_env('doom'); e.reset(seed=0); print('up', flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    engines = descendants(process.pid)
    assert engines
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in engines) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in engines)


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_carracing_maps_actions_and_cuts_the_indicators(carracing: gymnasium.Env) -> None:
    native = carracing.unwrapped.to_native(np.array([-0.5, -1.0, -1.0], np.float32))
    assert native == pytest.approx([-0.5, 0.0, 0.0])
    assert carracing.unwrapped.to_native(np.array([0.2, 0.5, 0.7], np.float32)) == pytest.approx([0.2, 0.75, 0.7])
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[84:] = 255
    assert not carracing.unwrapped.see(picture).any()


class Toy(gymnasium.Env):
    """A user's own environment."""

    def __init__(self, shape: tuple[int, ...] = (100, 80), action_space: spaces.Space | None = None, **_: object):
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = action_space or spaces.Discrete(3, start=1)
        self.last: object = None

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 255, self.observation_space.shape, np.uint8), {}

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.last = action
        return np.zeros(self.observation_space.shape, np.uint8), 0.5, False, False, {}


gymnasium.register("ToyImages-v0", entry_point="tests.envs.test_envs:Toy", disable_env_checker=True)


def test_a_users_own_environment_by_its_id() -> None:
    env = make_env("tests.envs.test_envs:ToyImages-v0")
    obs, _ = env.reset(seed=1)
    assert obs.shape == (64, 64, 3) and env.action_space.shape == (3,)
    assert (obs[..., 0] == obs[..., 1]).all()  # grey became three equal channels


class OneBuffer(Toy):
    """Draws into the same array for ever, as emulators do."""

    def __init__(self) -> None:
        super().__init__((64, 64, 3))
        self._buffer = np.zeros((64, 64, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self._buffer[:] = 0
        return self._buffer, {}

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._buffer += 1
        return self._buffer, 0.0, False, False, {}


def test_episodes_keep_what_was_seen_though_the_environment_draws_over_it() -> None:
    (outcome,) = rollout([ImageEnv(OneBuffer())], BlindAgent("still", 3), [0], 6, record=True)
    assert outcome.episode is not None and outcome.episode.obs[:, 0, 0, 0].tolist() == list(range(7))


@pytest.mark.parametrize(
    ("space", "action", "native"),
    [
        (spaces.Discrete(3, start=1), [0.1, 0.9, 0.3], 2),
        (spaces.MultiBinary(2), [-0.1, 0.1], [0, 1]),
        (spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0])), [0.5, -1.0], [1.0, 0.0]),
    ],
)
def test_actions_reach_every_kind_of_space(space: spaces.Space, action: list[float], native: object) -> None:
    toy = Toy((32, 32, 3), space)
    env = ImageEnv(toy)
    env.reset(seed=0)
    env.step(np.array(action, np.float32))
    assert np.allclose(toy.last, native) and space.contains(toy.last)


def test_what_cannot_be_used_is_told() -> None:
    with pytest.raises(UserError, match=r"--env dom is unknown; did you mean doom\?"):
        make_env("dom")
    with pytest.raises(UserError, match=r"--env CarRacing-v33 is unknown; did you mean CarRacing-v3\?"):
        make_env("CarRacing-v33")
    with pytest.raises(UserError, match=r"CartPole-v1 shows .* an image is needed"):
        make_env("CartPole-v1")
    with pytest.raises(UserError, match="no_such_package"):
        make_env("no_such_package:Env-v0")
    with pytest.raises(UserError, match="needed: Discrete, MultiBinary, or a bounded Box"):
        ImageEnv(Toy((32, 32, 3), spaces.Box(-np.inf, np.inf, (1,))))


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[::2] = 200  # far finer than the result can show
    assert abs(to_obs([stripes])[0].astype(int) - 100).max() <= 4


@pytest.mark.parametrize("shape", [(120, 160, 3), (84, 96, 3), (640, 640, 3), (48, 32, 3)])
def test_shrinking_is_pillows(shape: tuple[int, ...]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    pillows = [np.asarray(Image.fromarray(each).resize((64, 64), Image.Resampling.BILINEAR)) for each in pictures]
    assert abs(to_obs(pictures).astype(int) - pillows).max() <= 1
    assert np.array_equal(to_obs(pictures), [to_obs([picture])[0] for picture in pictures])  # in company as alone


@pytest.mark.parametrize("name", ["doom", "carracing", "dmc:reacher-easy"])
def test_what_is_recorded_is_what_the_environment_shows_step_by_step(name: str) -> None:
    whole, small = make_env(name, shrink=False), make_env(name)
    (outcome,) = rollout([whole], BlindAgent("held", whole.action_space.shape[0]), [4], 40, record=True)
    assert outcome.episode is not None
    shown = [small.reset(seed=4)[0], *(small.step(action)[0] for action in outcome.episode.action)]
    assert len(shown) == 41 and np.array_equal(outcome.episode.obs, shown)
    assert whole.observation_space.contains(whole.reset(seed=4)[0]) and small.observation_space.contains(shown[-1])
    whole.close()
    small.close()
