import numpy as np
import pytest

from worldmodels.dreams.dream_env import DreamEnv
from worldmodels.dreams.latent_env import LatentEnv
from worldmodels.envs import make_env

INPUTS = ("z", "c", "h")
NAN = float("nan")


def test_a_latent_env_refuses_what_its_model_does_not_know(model) -> None:
    doom = make_env("doom")
    with pytest.raises(ValueError, match="max_steps must be at least 1"):
        LatentEnv(doom, model, INPUTS, max_steps=0)
    with pytest.raises(ValueError, match="inputs must be a tuple of some of z, h, c"):
        LatentEnv(doom, model, ("x",))
    with pytest.raises(ValueError, match="the model was trained on the shape"):
        LatentEnv(make_env("doom", shrink=False), model, INPUTS)
    with pytest.raises(ValueError, match="the model was trained on the shape"):
        LatentEnv(make_env("dmc:reacher-easy"), model, INPUTS)
    env = LatentEnv(doom, model, INPUTS)
    first, same = (env.reset(seed=seed)[0] for seed in (4, np.int64(4)))
    picture = env.render()
    assert np.array_equal(first, same) and picture.dtype == np.uint8 and picture.shape[2] == 3
    assert env.render_mode in env.metadata["render_modes"] and env.metadata["render_fps"] > 0
    with pytest.raises(TypeError, match="a seed must be a whole number"):
        env.reset(seed=1.5)
    env.close()


def test_latent_env_has_the_spaces_of_the_dream_and_the_ends_of_reality(model) -> None:
    dreamt = DreamEnv(model, 2, INPUTS)
    env = LatentEnv(make_env("doom"), model, INPUTS, max_steps=15)
    assert env.observation_space == dreamt.single_observation_space
    assert env.action_space == dreamt.single_action_space
    obs, _ = env.reset(seed=4)
    assert env.observation_space.contains(obs)
    steps, truncated = 0, False
    while not truncated:
        obs, reward, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        steps += 1
        assert env.observation_space.contains(obs) and reward == 1.0 and not terminated
    env.close()
    assert steps == 15


def test_latent_env_tells_memory_what_was_done(model, monkeypatch: pytest.MonkeyPatch) -> None:
    env, given = LatentEnv(make_env("doom"), model, INPUTS), []
    original = type(model).observe

    def observe(self, state, action, embed, is_first, noise):
        given.append((float(action[0, 0]), float(is_first[0, 0])))
        return original(self, state, action, embed, is_first, noise)

    monkeypatch.setattr(type(model), "observe", observe)
    env.reset(seed=4)
    for value in (0.5, -0.25, 1.0):
        env.step(np.array([value], np.float32))
    env.reset(seed=4)
    env.close()
    assert given == [(0.0, 1.0), (0.5, 0.0), (-0.25, 0.0), (1.0, 0.0), (0.0, 1.0)]
