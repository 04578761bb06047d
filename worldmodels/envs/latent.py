"""The real environment seen through V and M: the spaces of DreamEnv, the rewards and ends of reality."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from worldmodels.models.base import WorldModel
from worldmodels.seeding import Noise, integer


class LatentEnv(gymnasium.Env):
    """An environment whose observations are features, so that what was trained in a DreamEnv can act in it.

    Args:
        env: from `make_env`.
        model: what sees and remembers.
        inputs: the parts of the features to observe.
        max_steps: steps after which an episode is truncated.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        model: WorldModel,
        inputs: tuple[str, ...],
        max_steps: int = 1000,
    ) -> None:
        self.env, self._model, self._inputs = env, model, inputs
        self._max_steps = max_steps
        width = sum(model.feat_sizes[part] for part in inputs)
        self.observation_space = spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.action_space = spaces.Box(-1, 1, (model.action_size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        obs, info = self.env.reset(seed=episode_seed, options=options)
        self._noise = Noise([integer(episode_seed, "latent")], self._model.noise_size, self._model.starts.device)
        self._state, self._steps = self._model.initial(1), 0
        return self._see(obs, np.zeros(self._model.action_size, np.float32), 1.0), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        truncated = not terminated and (truncated or self._steps >= self._max_steps)
        return self._see(obs, action, 0.0), float(reward), terminated, truncated, info

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    @torch.no_grad()
    def _see(self, obs: np.ndarray, action: np.ndarray, is_first: float) -> np.ndarray:
        device = self._model.starts.device
        previous = torch.as_tensor(np.asarray(action, np.float32), device=device)[None]
        embed = self._model.encode(torch.as_tensor(np.array(obs), device=device)[None])
        first, noise = torch.full((1, 1), is_first, device=device), self._noise.draw()
        self._state = self._model.observe(self._state, previous, embed, first, noise)
        return self._model.features(self._state, self._inputs).cpu().numpy()[0]
