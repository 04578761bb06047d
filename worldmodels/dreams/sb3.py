"""A dream as stable-baselines3 has its environments. Imported only by those who ask for it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment, such as a DreamEnv, as a VecEnv of stable-baselines3.

    Both step many rows at once, but in other words: there an episode's last observation stands in its row's info, and a
    row begins anew in the step that ends it.

    Args:
        env: made with `autoreset_mode="SameStep"`.

    Raises:
        ValueError: if its rows begin anew otherwise.
    """

    def __init__(self, env: VectorEnv) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"stable-baselines3 needs autoreset_mode='SameStep'; this environment has {mode}")
        self._env: Any = env  # DreamEnv and SyncVectorEnv take a seed for each row, whatever VectorEnv says
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> np.ndarray:
        """Begins all rows, with the seeds of `seed` if there are any. Observations (num_envs, F)."""
        given = [seed for seed in self._seeds if seed is not None]
        obs: np.ndarray = self._env.reset(seed=given or None)[0]
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """What rows are to do next, (num_envs, A)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Does it: observations (num_envs, F), rewards and ends (num_envs,), and an info for each row."""
        obs, reward, terminated, truncated, told = self._env.step(self._actions)
        over = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(over):
            cut = bool(truncated[row] and not terminated[row])
            infos[row] = {"terminal_observation": told["final_obs"][row], "TimeLimit.truncated": cut}
        return obs, reward, over, infos

    def get_images(self) -> Sequence[np.ndarray | None]:
        """What each row dreams, if the environment was made with `render_mode="rgb_array"`."""
        return self._env.render() or [None] * self.num_envs

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Rows are one environment: what that has, for each."""
        return [getattr(self._env, attr_name) for _ in self._rows(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raises NotImplementedError: rows are one environment."""
        raise NotImplementedError(f"{attr_name} cannot be set: rows are one environment; set it there")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Raises NotImplementedError: rows are one environment."""
        raise NotImplementedError(f"{method_name} cannot be called row by row: rows are one environment")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No row is."""
        return [False for _ in self._rows(indices)]

    def _rows(self, indices: VecEnvIndices) -> Iterable[int]:
        rows: Iterable[int] = self._get_indices(indices)
        return rows
