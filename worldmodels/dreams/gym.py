"""A dream as a Gymnasium environment, and the real environment seen through V and M: the same two spaces."""

import operator
import secrets
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodels.core.seeding import Noise, integer
from worldmodels.dreams.dream import Dream
from worldmodels.models.base import WorldModel


class DreamEnv(VectorEnv):
    """A dream as a Gymnasium vector environment, for any library that trains agents in those.

    Observations are features (float32, as a controller gets them), actions as in every environment of ours. A row
    whose episode is over begins another with the next step, whose action is ignored (AutoresetMode.NEXT_STEP).
    `LatentEnv` is the real environment with the same two spaces.

    Args:
        model: what dreams.
        num_envs: rows.
        inputs: the parts of the features to observe.
        tau: temperature.
        max_steps: steps after which an episode is truncated.
        sample_end: of Dream.
    """

    def __init__(
        self,
        model: WorldModel,
        num_envs: int,
        inputs: tuple[str, ...],
        tau: float = 1.0,
        max_steps: int = 1000,
        sample_end: bool = False,
    ) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs, self._inputs, self._max_steps = num_envs, inputs, max_steps
        self.dream = Dream(model, tau, sample_end)
        width = sum(model.feat_sizes[part] for part in inputs)
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.single_action_space = spaces.Box(-1, 1, (model.action_size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes_begun = 0
        self._seed: int | None = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begins all rows.

        Args:
            seed: one for all rows to derive theirs from, or a list with one per row. None goes on with the seed given
                before, or with one of the system's if there was none.
            options: unused.
        """
        listed = seed if isinstance(seed, list) else [None] * self.num_envs
        given = next((s for s in listed if s is not None), None) if isinstance(seed, list) else seed
        if given is not None:
            self._seed, self._episodes_begun = operator.index(given), 0
        elif self._seed is None:
            self._seed = secrets.randbits(31)
        self.dream.begin([self._next_seed() if s is None else s for s in listed])
        self._steps = np.zeros(self.num_envs, np.int64)
        self._done = np.zeros(self.num_envs, bool)
        return self._see(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        restarts = {int(row): self._next_seed() for row in np.flatnonzero(self._done)}
        action = torch.as_tensor(np.asarray(actions, np.float32), device=self.dream.device)
        reward, ended = self.dream.step(action, restarts)
        terminated = ended.cpu().numpy()
        self._steps = np.where(self._done, 0, self._steps + 1)
        truncated = (self._steps >= self._max_steps) & ~terminated
        self._done = terminated | truncated
        return self._see(), reward.cpu().numpy(), terminated, truncated, {}

    def _see(self) -> np.ndarray:
        return self.dream.features(self._inputs).cpu().numpy()

    def _next_seed(self) -> int:
        assert self._seed is not None  # reset comes first
        self._episodes_begun += 1
        return integer(self._seed, "dream", self._episodes_begun)


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
