from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

from worldmodels.envs.carracing import AUTHORS, GYMNASIUM, ROWS, CarRacing, FastCarRacing

Driver = Callable[[Any, np.random.Generator], Iterator[Any]]
"""Yields actions for an environment, which it may look at."""


def at_random(env: Any, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield from [rng.uniform([-1, 0, 0], [1, 1, 0.3]).astype(np.float32)] * 8  # a car that shivers gets nowhere


def along_the_road(env: Any, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        hull, track = env.car.hull, np.array(env.track)[:, 2:]
        nearest = ((track - hull.position) ** 2).sum(1).argmin()
        aside, ahead = hull.GetLocalPoint(track[(nearest + 6) % len(track)].tolist())
        gas = 0.5 if hull.linearVelocity.length < 45 else 0.0
        yield np.array([np.arctan2(aside, ahead), gas, 0], np.float32).clip(-1, 1)


def straight_on(env: Any, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield np.array([0, 1, 0], np.float32)


def by_buttons(env: Any, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield int(rng.choice(5, p=[0.1, 0.2, 0.2, 0.4, 0.1]))


def play_both(seed: int, steps: int, driver: Driver, **options: Any) -> list[dict]:
    """Drives Gymnasium's environment and ours, and compares every step; what they told of each episode's end."""
    theirs = gymnasium.make("CarRacing-v3", disable_env_checker=True, **options)
    ours = gymnasium.wrappers.TimeLimit(FastCarRacing(**options), 1000)
    actions = driver(theirs.unwrapped, np.random.default_rng(seed))
    ends: list[dict] = []
    over = True
    for step in range(steps):
        if over:
            seed += 100
            expected, found = theirs.reset(seed=seed)[0], ours.reset(seed=seed)[0]
            assert np.array_equal(expected[:ROWS], found[:ROWS]), f"reset at step {step}"
        action = next(actions)
        expected, *rest = theirs.step(action)
        found, *other = ours.step(action)
        assert found.dtype == np.uint8 and np.array_equal(expected[:ROWS], found[:ROWS]), f"step {step}"
        assert rest == other, f"step {step}"  # reward, terminated, truncated, info
        over = rest[1] or rest[2]
        ends += rest[3:] if over else []
    theirs.close()
    ours.close()
    return ends


@pytest.mark.parametrize("driver", [at_random, along_the_road])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_gymnasiums_own_to_the_pixel_and_to_the_reward(seed: int, driver: Driver) -> None:
    play_both(seed, 300, driver)


@pytest.mark.slow
@pytest.mark.parametrize("driver", [at_random, along_the_road])
@pytest.mark.parametrize("seed", [10, 11, 12, 13, 14])
def test_it_stays_so_for_ten_thousand_steps_of_each_kind(seed: int, driver: Driver) -> None:
    play_both(seed, 2000, driver)


def test_actions_can_last_until_the_very_frame_that_ends_an_episode() -> None:
    once, often = CarRacing(), CarRacing(action_repeat=4)
    assert once.reset(seed=100)[0].shape == often.reset(seed=100)[0].shape and often.metadata["render_fps"] == 12.5
    full = np.array([0, 1, -1], np.float32)
    over = False
    actions = 0
    while not over:
        paid = []
        for _ in range(4):
            picture, reward, *ends, _ = once.step(full)
            paid.append(reward)
            if any(ends):
                break
        found, reward, *other, _ = often.step(full)
        assert reward == pytest.approx(sum(paid)) and other == ends and np.array_equal(found, picture)
        over = any(ends)
        actions += 1
    assert ends == [True, False] and actions < 250 and len(paid) < 4  # out of the field, within an action


def test_beyond_the_edge_of_the_field_too() -> None:
    ends = play_both(0, 400, straight_on)
    assert ends and not ends[0]["lap_finished"]


@pytest.mark.parametrize(
    ("driver", "options"),
    [(at_random, {"domain_randomize": True}), (by_buttons, {"continuous": False})],
)
def test_gymnasiums_options_hold(driver: Driver, options: dict[str, Any]) -> None:
    play_both(1, 120, driver, **options)


def test_people_see_the_whole_picture_with_its_indicators() -> None:
    env = CarRacing()
    env.reset(seed=0)
    env.step(np.zeros(3, np.float32))
    frame = env.render()
    env.close()
    assert frame.shape[0] >= 400 and (frame[-20:] == 0).all(-1).any()


def test_a_finished_lap_is_cut_short_and_no_end() -> None:
    env = CarRacing()
    env.reset(seed=0)
    env._track.tile_visited_count = len(env._track.track)
    *_, terminated, truncated, info = env.step(np.zeros(3, np.float32))
    env.close()
    assert info["lap_finished"] and (terminated, truncated) == (False, True)


def test_it_truncates_after_a_thousand_steps() -> None:
    env = CarRacing()
    env.reset(seed=0)
    steps, truncated = 0, False
    while not truncated:
        *_, terminated, truncated, _ = env.step(np.array([0, -1, 1], np.float32))  # stand on the brake
        steps += 1
        assert not terminated
    env.close()
    assert steps == 1000


def test_the_authors_camera_turns_with_the_motion_once_there_is_any() -> None:
    hull = SimpleNamespace(angle=0.3, linearVelocity=(0.3, 0.3))
    assert AUTHORS.angle(hull) == GYMNASIUM.angle(hull) == -0.3
    hull.linearVelocity = (3.0, 3.0)
    assert AUTHORS.angle(hull) == pytest.approx(np.pi / 4) and GYMNASIUM.angle(hull) == -0.3
    assert (AUTHORS.cut, GYMNASIUM.cut) == (125, 100)
