import re

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from worldmodels import models
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.dream_env import DreamEnv

INPUTS = ("z", "c", "h")
NAN = float("nan")


def test_a_dream_can_be_watched(model) -> None:
    env = DreamEnv(model, 3, INPUTS, render_mode="rgb_array")
    assert env.render_mode in env.metadata["render_modes"] and env.metadata["render_fps"] > 0
    env.reset(seed=1)
    env.step(np.zeros((3, 1), np.float32))
    pictures = env.render()
    assert isinstance(pictures, tuple) and len(pictures) == 3
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in pictures)
    z = torch.from_numpy(env.step(np.zeros((3, 1), np.float32))[0][:, : model.code_size])
    expected = model.vision.decode(z).numpy()
    assert np.array_equal(np.stack(env.render()), expected) and not np.array_equal(expected, np.stack(pictures))
    blind = DreamEnv(model, 3, INPUTS)
    blind.reset(seed=1)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert blind.render() is None


@pytest.mark.parametrize("pair", [("vae", "rssm"), ("hrssm", "mdnrnn"), ("hrssm", "rssm")])
def test_every_pair_of_models_begins_some_rows_anew_and_leaves_the_others_be(pairs, pair: tuple[str, str]) -> None:
    """Right after the first reset too, when the state is what the model made of nothing."""
    world, rows = models.load(pairs[pair].run, precision="fp32"), np.array([False, True, False])
    env = DreamEnv(world, 3, world.default_inputs, render_mode="rgb_array")
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=[None, 9, None], options={"reset_mask": rows})
    assert np.array_equal(again[~rows], first[~rows])
    fresh, _ = DreamEnv(world, 3, world.default_inputs).reset(seed=[9, 9, 9])
    np.testing.assert_allclose(again[1], fresh[1], rtol=1e-5, atol=1e-6)
    for t in range(70):  # past one block of noise
        obs, *_ = env.step(np.full((3, world.action_size), np.sin(t), np.float32))
    assert len(env.render()) == 3 and obs in env.observation_space


def test_a_row_begun_anew_has_the_dream_of_its_seed(model) -> None:
    dream, alone = Dream(model), Dream(model)
    dream.begin([1, 2])
    for _ in range(10):
        dream.step(torch.zeros(2, 1))
    dream.restart({1: 9})
    alone.begin([9, 9])
    for t in range(80):
        assert torch.equal(dream.features(INPUTS)[1], alone.features(INPUTS)[1])
        dream.step(torch.full((2, 1), np.sin(t)))
        alone.step(torch.full((2, 1), np.sin(t)))


def test_some_rows_can_be_reset_and_the_users_options_stay_as_they_are(model) -> None:
    env = DreamEnv(model, 4, INPUTS, autoreset_mode="Disabled")
    options = {"reset_mask": np.array([True, False, False, True]), "of another environment": 1}
    with pytest.raises(ResetNeeded, match="all of its rows"):
        env.reset(seed=1, options=options)
    env.reset(seed=1)
    before = env.step(np.zeros((4, 1), np.float32))[0]
    after, info = env.reset(options=options)
    assert np.array_equal(after[1:3], before[1:3]) and not after[[0, 3], 8:].any() and info == {}
    assert set(options) == {"reset_mask", "of another environment"}


def test_a_row_whose_episode_is_over_is_not_stepped_when_nothing_resets_it(model) -> None:
    env = DreamEnv(model, 2, INPUTS, max_steps=1, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=1)
    env.step(np.zeros((2, 1), np.float32))
    with pytest.raises(ResetNeeded, match=re.escape("rows [0, 1] are over")):
        env.step(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"tau": NAN}, ValueError, "tau nan is no temperature"),
        ({"tau": 0.0}, ValueError, "tau 0.0 is no temperature"),
        ({"tau": float("inf")}, ValueError, "tau inf is no temperature"),
        ({"max_steps": 0}, ValueError, "max_steps must be at least 1; got 0"),
        ({"max_steps": 2.5}, TypeError, "max_steps must be a whole number; got 2.5"),
        ({"num_envs": 0}, ValueError, "num_envs must be at least 1; got 0"),
        ({"inputs": ("z", "y")}, ValueError, "inputs must be a tuple of some of z, h, c; got ('z', 'y')"),
        ({"inputs": "zh"}, ValueError, "inputs must be a tuple of some of z, h, c; got 'zh'"),
        ({"inputs": ()}, ValueError, "inputs must be a tuple of some of z, h, c; got ()"),
        ({"autoreset_mode": "Never"}, ValueError, "'Never' is not a valid AutoresetMode"),
        ({"render_mode": "human"}, ValueError, "render_mode 'human' is unknown"),
    ],
)
def test_what_makes_no_dream_is_refused(model, changes: dict, error: type, says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        DreamEnv(model, **({"num_envs": 2, "inputs": INPUTS} | changes))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"seed": [1, 2]}, ValueError, "must hold one for each of 3 rows; got 2"),
        ({"seed": np.arange(4)}, ValueError, "must hold one for each of 3 rows; got 4"),
        ({"seed": -1}, ValueError, "a seed must be at least 0; got -1"),
        ({"seed": [1, -2, 3]}, ValueError, "a seed must be at least 0; got -2"),
        ({"seed": 1.5}, TypeError, "a seed must be a whole number; got 1.5"),
        ({"options": {"reset_mask": [True, False, True]}}, TypeError, "must be a numpy array of bool"),
        ({"options": {"reset_mask": np.ones(3)}}, TypeError, "must be a numpy array of bool"),
        ({"options": {"reset_mask": np.ones(2, bool)}}, ValueError, "must be (3,) and choose a row"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, ValueError, "must be (3,) and choose a row"),
    ],
)
def test_a_reset_that_makes_no_sense_is_refused_and_changes_nothing(
    model, arguments: dict, error: type, says: str
) -> None:
    told = []
    for wrong in (False, True):
        env = DreamEnv(model, 3, INPUTS)
        env.reset(seed=4)
        if wrong:
            with pytest.raises(error, match=re.escape(says)):
                env.reset(**arguments)
        told.append([env.step(np.zeros((3, 1), np.float32))[0], env.reset()[0]])
    assert np.array_equal(*told)


def test_numpys_seeds_are_seeds_in_lists_and_alone(model) -> None:
    env = DreamEnv(model, 3, INPUTS)
    listed = [env.reset(seed=seeds)[0] for seeds in ([3, 4, 5], (3, 4, 5), np.array([3, 4, 5]))]
    assert np.array_equal(listed[0], listed[1]) and np.array_equal(listed[0], listed[2])
    assert env.np_random_seed == 3
    env.reset(seed=np.int64(7))
    assert env.np_random_seed == 7


def test_a_generator_set_by_hand_decides_the_dreams_that_follow(model) -> None:
    seen = []
    for _ in range(2):
        env = DreamEnv(model, 3, INPUTS)
        env.reset(seed=1)
        env.np_random = np.random.default_rng(8)
        seen.append([env.reset()[0], env.reset()[0]])
    assert np.array_equal(*seen) and not np.array_equal(*seen[0])


def test_an_ignored_action_may_be_anything(model) -> None:
    env = DreamEnv(model, 2, INPUTS, max_steps=1)
    env.reset(seed=3)
    env.step(np.zeros((2, 1), np.float32))
    obs, reward, *_ = env.step(np.full((2, 1), NAN, np.float32))
    assert np.isfinite(obs).all() and not reward.any()


def test_dream_env_is_a_vector_env_that_resets_itself(model) -> None:
    env = DreamEnv(model, 8, INPUTS, tau=1.0, max_steps=25)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    obs, _ = env.reset(seed=3)
    assert obs in env.observation_space and obs.shape == (8, 40)
    ends, done = 0, np.zeros(8, bool)
    steps = np.zeros(8, int)
    for _ in range(120):
        action = env.action_space.sample()
        obs, reward, terminated, truncated, _ = env.step(action)
        assert obs in env.observation_space and not (terminated & truncated).any()
        assert (reward[done] == 0).all() and (reward[~done] == 1).all()  # a row that restarts is not paid
        memory = obs[:, 8:]
        assert not memory[done].any()  # and remembers nothing
        steps = np.where(done, 0, steps + 1)
        assert (truncated == ((steps == 25) & ~terminated)).all()
        done = terminated | truncated
        ends += done.sum()
    assert ends > 8


def test_dream_env_repeats_itself_from_the_same_seed(model) -> None:
    env = DreamEnv(model, 4, INPUTS, max_steps=25)
    films = []
    for _ in range(2):
        obs = [env.reset(seed=5)[0]]
        obs += [env.step(np.full((4, 1), np.sin(t), np.float32))[0] for t in range(60)]
        films.append(np.stack(obs))
    assert np.array_equal(*films)
    assert not np.array_equal(env.reset(seed=6)[0], films[0][0])
    assert np.array_equal(env.reset(seed=np.int64(5))[0], films[0][0])
    fresh = (DreamEnv(model, 4, INPUTS, max_steps=25) for _ in range(2))
    first, second = (one.reset()[0] for one in fresh)
    assert not np.array_equal(first, second)  # no seed, no repetition
