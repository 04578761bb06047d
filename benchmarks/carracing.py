"""Steps of CarRacing with the picture that V sees, beside Gymnasium's own environment."""

from collections.abc import Iterator

import gymnasium
import numpy as np
from PIL import Image

from benchmarks.measure import Row
from worldmodels.envs import make_env
from worldmodels.settings.envspec import EnvSpec

STEPS = 300


def rows() -> Iterator[Row]:
    ours, plain = make_env(EnvSpec("carracing")), gymnasium.make("CarRacing-v3")
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (STEPS, 3)).astype(np.float32)
    yield Row("CarRacing", "steps/s", lambda: play(ours, actions), lambda: play_plain(plain, actions), None, 3.0)
    ours.close()
    plain.close()


def play(env: gymnasium.Env, actions: np.ndarray) -> float:
    env.reset(seed=0)
    for action in actions:
        env.step(action)
    return len(actions)


def play_plain(env: gymnasium.Env, actions: np.ndarray) -> float:
    """The obvious code: Gymnasium's picture, cut and made small."""
    env.reset(seed=0)
    for action in actions:
        picture, *_ = env.step(to_native(action))
        small(picture)
    return len(actions)


def to_native(action: np.ndarray) -> np.ndarray:
    steer, gas, brake = action
    return np.array([steer, (gas + 1) / 2, max(brake, 0.0)], np.float32)


def small(picture: np.ndarray) -> np.ndarray:
    """Without the bar of indicators, 64x64."""
    if picture.shape[0] == 64:
        return picture
    return np.array(Image.fromarray(picture[:84]).resize((64, 64), Image.Resampling.BILINEAR))
