"""An environment of your own, with its record. All that stages 1 to 4 need of it is its name:

export PYTHONPATH=examples
worldmodels collect --env own_environment:MyEnv-v0 --episodes 32
"""

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodels.settings.environments import Environment, register


class MyEnv(gymnasium.Env):
    """A square that the action moves; the nearer to the middle, the better."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode=None, truth=False):
        self.render_mode, self.truth = render_mode, truth

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(10, 50, 2)
        return self.render(), self.info()

    def step(self, action):
        self.place = np.clip(self.place + 2 * action, 0, 59)
        return self.render(), -float(np.abs(self.place - 30).mean()) / 30, False, False, self.info()

    def render(self):
        picture = np.zeros((64, 64, 3), np.uint8)
        x, y = self.place.astype(int)
        picture[y : y + 4, x : x + 4] = 255, 128, 0
        return picture

    def info(self):
        return {"truth": {"place": self.place.astype(np.float32)}} if self.truth else {}


gymnasium.register("MyEnv-v0", MyEnv)
register(
    Environment(
        name="MyEnv-v0",
        presets={"collect": {"all": {"max_steps": 200}}, "controller": {"all": {"max_steps": 200}}},
        baselines={"stand still": "still", "walk about": "brownian"},
        tau=0.9,
        tells_truth=True,
    )
)
