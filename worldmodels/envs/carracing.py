"""CarRacing: drive round a random track, seen from above.

Gymnasium's CarRacing-v3 with the paper's picture (CLASSIC 1.1): the bar of indicators cut off, the rest 64x64.
"""

import os
from typing import Any

import gymnasium
import numpy as np

from worldmodels.envs.images import ImageEnv, to_obs

ROWS = 84  # of 96; below them lies the bar of indicators


class CarRacing(ImageEnv):
    """Action (3,) in [-1, 1]: steering, gas (-1 none, 1 full), brake (0 and below none, 1 full)."""

    def __init__(self, **options: Any) -> None:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window, no display needed
        super().__init__(gymnasium.make("CarRacing-v3", render_mode="rgb_array", disable_env_checker=True, **options))

    def see(self, picture: np.ndarray) -> np.ndarray:
        return to_obs(picture[:ROWS])

    def to_native(self, action: np.ndarray) -> np.ndarray:
        steer, gas, brake = np.asarray(action, np.float32)
        return np.array([steer, (gas + 1) / 2, max(brake, 0.0)], np.float32)
