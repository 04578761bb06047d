"""The real environment seen through V and M, with the two spaces of a dream (dream_env.py).

What is wrong is refused as Gymnasium's own environments do: ValueError or TypeError for arguments,
ResetNeeded for a step before the first reset.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded

from worldmodels.core.seeding import Noise, integer
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.dreams.spaces import FPS, clipped, spaces_of, whole
from worldmodels.envs.checked import Info
from worldmodels.models.base import WorldModel
from worldmodels.models.perceive import Eyes


class LatentEnv(gymnasium.Env):
    """An environment whose observations are features, so that what was trained in a DreamEnv can act in it.

    Observations are float32 (F,). Actions are float32 (A,) in [-1, 1]; what lies outside is clipped. `render`
    draws what the environment draws, uint8 (H, W, 3).

    Args:
        env: from `make_env`.
        model: what sees and remembers.
        inputs: the parts of the features to observe.
        max_steps: steps after which an episode is truncated.

    Raises:
        ValueError, TypeError: if an argument is not what is said here, or the environment is not of the kind
            that the model was trained on.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        model: WorldModel,
        inputs: tuple[str, ...],
        max_steps: int = 1000,
    ) -> None:
        self.observation_space, self.action_space = spaces_of(model, inputs)
        for space, shape in ((env.observation_space, OBS_SHAPE), (env.action_space, self.action_space.shape)):
            if space.shape != shape:
                raise ValueError(f"the environment has {space}; the model was trained on the shape {shape}")
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": env.metadata.get("render_fps", FPS)}
        self.render_mode = "rgb_array"
        self.env = env
        self._model = model
        self._inputs = inputs
        self._max_steps = whole("max_steps", max_steps, 1)
        self._eyes: Eyes | None = None

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        seed = None if seed is None else whole("a seed", seed, 0)
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        obs, info = self.env.reset(seed=episode_seed, options=options)
        device = self._model.starts.device
        self._noise = Noise([integer(episode_seed, "latent")], self._model.noise_size, device)
        self._eyes = Eyes(self._model, 1)
        self._steps = 0
        return self._see(self._eyes, obs), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        eyes = self._begun()
        action = clipped(action, self.action_space.shape)
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        truncated = not terminated and (truncated or self._steps >= self._max_steps)
        eyes.did(torch.from_numpy(action)[None])
        return self._see(eyes, obs), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        self._begun()
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def _begun(self) -> Eyes:
        if self._eyes is None:
            raise ResetNeeded("the environment must be begun by reset() first")
        return self._eyes

    def _see(self, eyes: Eyes, obs: np.ndarray) -> np.ndarray:
        eyes.see(torch.as_tensor(np.array(obs))[None], self._noise.draw())
        features: np.ndarray = eyes.features(self._inputs)[0].cpu().numpy()
        return features
