import gymnasium
import numpy as np
import pytest

from worldmodels.envs.carracing import ROWS, CarRacing, FastCarRacing


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_it_is_gymnasiums_own_to_the_pixel_and_to_the_reward(seed: int) -> None:
    """Random and driven steps: also where the car leaves the road, and after tiles change colour."""
    theirs = gymnasium.make("CarRacing-v3", disable_env_checker=True)
    ours = gymnasium.wrappers.TimeLimit(FastCarRacing(), 1000)
    rng = np.random.default_rng(seed)
    for _ in range(2):
        expected, found = theirs.reset(seed=seed)[0], ours.reset(seed=seed)[0]
        action = np.array([0.0, 0.4, 0.0], np.float32)
        for step in range(150):
            assert np.array_equal(expected[:ROWS], found[:ROWS]), f"step {step}"
            if step % 8 == 0 and step > 30:
                action = rng.uniform([-1, 0, 0], [1, 1, 0.3]).astype(np.float32)
            expected, *rest = theirs.step(action)
            found, *other = ours.step(action)
            assert rest[:3] == other[:3]
        seed += 100
    theirs.close()
    ours.close()


def test_people_see_the_whole_picture_with_its_indicators() -> None:
    env = CarRacing()
    env.reset(seed=0)
    env.step(np.zeros(3, np.float32))
    frame = env.render()
    env.close()
    assert frame.shape[0] >= 400 and (frame[-20:] == 0).all(-1).any()


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
