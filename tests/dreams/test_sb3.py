"""A dream as stable-baselines3 has its environments, beside that library's own vector of single ones."""

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from tests.dreams.test_gym import INPUTS, OneRow, derived
from worldmodels import SB3VecEnv
from worldmodels.dreams.dream_env import DreamEnv


def rows(model, **options: object) -> SB3VecEnv:
    return SB3VecEnv(DreamEnv(model, 4, INPUTS, max_steps=12, autoreset_mode="SameStep", **options))


def test_rows_go_on_as_the_librarys_own_have_them_go_on(model) -> None:
    """Observations, rewards, ends, last observations and whether the clock ended it."""
    ours = rows(model)
    seeds = derived(5)
    theirs = DummyVecEnv([lambda: OneRow(model, seeds, max_steps=12)] * 4)
    assert np.allclose(ours._env.reset(seed=5)[0], theirs.reset(), atol=1e-5)  # rows derive their seeds from it
    ends = []
    for t in range(60):
        action = np.full((4, 1), np.sin(t), np.float32)
        obs, reward, over, infos = ours.step(action)
        wanted, paid, ended, told = theirs.step(action)
        assert np.allclose(obs, wanted, atol=1e-5) and np.array_equal(reward, paid) and np.array_equal(over, ended)
        for row in np.flatnonzero(over):
            last = "terminal_observation"
            assert np.allclose(infos[row][last], told[row][last], atol=1e-5)
            assert infos[row]["TimeLimit.truncated"] is bool(told[row]["TimeLimit.truncated"])
            ends.append(infos[row]["TimeLimit.truncated"])
    assert {True, False} == set(ends)


def test_the_seed_that_the_library_sets_decides_what_is_dreamt(model) -> None:
    found = []
    for seed in (3, 3, 4):
        env = rows(model)
        env.seed(seed)
        found.append(np.stack([env.reset(), *(env.step(np.zeros((4, 1), np.float32))[0] for _ in range(20))]))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    assert len(np.unique(found[0][0], axis=0)) > 1  # rows differ


def test_ppo_learns_which_way_pays_in_a_dream(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a dream that pays the action that is taken, whatever is seen."""
    dream = DreamEnv(model, 8, INPUTS, max_steps=12, autoreset_mode="SameStep")
    step = dream.step
    monkeypatch.setattr(dream, "step", lambda action: (told := step(action), (told[0], action[:, 0], *told[2:]))[1])
    ppo = PPO("MlpPolicy", VecMonitor(SB3VecEnv(dream)), n_steps=32, batch_size=64, learning_rate=3e-3, seed=0)
    before = ppo.predict(dream.reset(seed=0)[0], deterministic=True)[0].mean()
    ppo.learn(3072)
    after = ppo.predict(dream.reset(seed=0)[0], deterministic=True)[0].mean()
    assert after > before + 0.3


def test_it_can_be_watched_and_closed(model) -> None:
    env = rows(model, render_mode="rgb_array")
    env.reset()
    assert env.render_mode == "rgb_array" and env.render().shape == (128, 128, 3)
    assert env.get_attr("spec", [0, 2]) == [None, None] and env.env_is_wrapped(OneRow) == [False] * 4
    env.close()
    assert env._env.closed


def test_what_cannot_be_is_refused(model) -> None:
    with pytest.raises(ValueError, match="needs autoreset_mode='SameStep'; this environment has"):
        SB3VecEnv(DreamEnv(model, 2, INPUTS))
    with pytest.raises(NotImplementedError, match="tau cannot be set: rows are one environment"):
        rows(model).set_attr("tau", 2.0)
    with pytest.raises(NotImplementedError, match="wake cannot be called row by row"):
        rows(model).env_method("wake")
