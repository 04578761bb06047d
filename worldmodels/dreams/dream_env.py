"""A dream as a Gymnasium vector environment.

What is wrong is refused as Gymnasium's own environments do: ValueError or TypeError for arguments,
ResetNeeded for a step before the first reset.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodels.core.seeding import integer
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.spaces import FPS, clipped, rows_of, spaces_of, whole
from worldmodels.envs.checked import Info
from worldmodels.models.base import WorldModel


class DreamEnv(VectorEnv):
    """A dream as a Gymnasium vector environment, for any library that trains agents in those.

    Observations are float32 (num_envs, F), features as a controller gets them. Actions are float32
    (num_envs, A) in [-1, 1], as in every environment of ours; what lies outside is clipped. `LatentEnv`
    is the real environment with the same two spaces. Which episodes are dreamt follows from the seed
    alone, not from how rows begin anew.

    Args:
        model: what dreams.
        num_envs: rows.
        inputs: the parts of the features to observe.
        tau: temperature, above 0.
        max_steps: steps after which an episode is truncated.
        sample_end: of Dream.
        midway: of Dream; a few hundred `max_steps` go well with it.
        dropout, member: of Dream.
        autoreset_mode: how a row goes on whose episode is over. NEXT_STEP: the next step begins another,
            ignores that row's action and pays 0. SAME_STEP: the step that ends it begins another, and
            `info["final_obs"]` holds what was seen last. DISABLED: it waits for
            `reset(options={"reset_mask": rows})`.
        render_mode: "rgb_array" for `render`, or None.

    Raises:
        ValueError, TypeError: if an argument is not what is said here.
    """

    def __init__(
        self,
        model: WorldModel,
        num_envs: int,
        inputs: tuple[str, ...],
        tau: float = 1.0,
        max_steps: int = 1000,
        sample_end: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        midway: bool = False,
        dropout: float = 0.0,
        member: int | None = None,
    ) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout {dropout} is no share; it must be from 0 to below 1")
        if dropout and not model.worlds:
            raise ValueError(f"dropout {dropout}: this M was trained without; train it with --dropout")
        if member is not None and not 0 <= member < model.members:
            raise ValueError(f"member {member} is not among the {model.members} that this M has, from 0 on")
        if midway and not model.moments:
            raise ValueError("midway: this M kept no moments of real episodes to begin at; train it anew")
        if not 0 < tau < np.inf:
            raise ValueError(f"tau {tau} is no temperature; it must be above 0 and finite")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(
                f"render_mode {render_mode!r} is unknown; a dream can be seen as 'rgb_array', or None",
            )
        self.num_envs = whole("num_envs", num_envs, 1)
        self._max_steps = whole("max_steps", max_steps, 1)
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FPS, "autoreset_mode": self._mode}
        self.render_mode = render_mode
        self.single_observation_space, self.single_action_space = spaces_of(model, inputs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._inputs = inputs
        self.dream = Dream(model, tau, sample_end, midway, dropout, member)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._done = np.zeros(self.num_envs, bool)
        self._seed: int | None = None
        self._episodes_begun = 0

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins all rows, or some.

        Args:
            seed: one for all rows to derive theirs from, or one for each row. None goes on with the seed
                given before, or with one of `np_random`'s if there was none.
            options: "reset_mask", bool (num_envs,): the rows to begin, while the others stay as they are.
                Whatever else it holds means nothing here.

        Raises:
            ValueError, TypeError: if a seed is no whole number from 0 on, there are not `num_envs` of them,
                or the mask is none or chooses no row.
            ResetNeeded: if some rows are to begin before all have.
        """
        self._check_open()
        mask = self._mask(options)
        if not mask.all():
            self._check_begun()
        listed = self._listed(seed)
        seeds = dict[int, int]()
        for row in rows_of(mask):
            own = listed[row]
            seeds[row] = self._next_seed() if own is None else own
        if mask.all():
            self.dream.begin(list(seeds.values()))
        else:
            self.dream.restart(seeds)
        self._steps[mask] = 0
        self._done[mask] = False
        return self._see(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Advances all rows, but for those that begin anew.

        Args:
            actions: float32 (num_envs, A).

        Returns:
            Observations float32 (num_envs, F), rewards float32, terminated bool and
            truncated bool (num_envs,), info.

        Raises:
            ValueError: if actions have another shape, or one is not a number.
            ResetNeeded: before the first reset; with AutoresetMode.DISABLED, while a row's episode is over.
        """
        self._check_open()
        self._check_begun()
        restarting = self._done
        if self._mode == AutoresetMode.DISABLED and restarting.any():
            over = rows_of(restarting)
            raise ResetNeeded(f"the episodes of rows {over} are over; reset them, by a reset_mask")
        acting = clipped(actions, self.action_space.shape, ~restarting)
        reward, terminated = (
            values.cpu().numpy() for values in self.dream.step(torch.from_numpy(acting).to(self.dream.device))
        )
        reward[restarting] = 0.0
        terminated[restarting] = False
        self._steps += 1
        self._begin_anew(restarting)
        truncated = (self._steps >= self._max_steps) & ~terminated
        self._done = terminated | truncated
        info: dict[str, Any] = {}
        if self._mode == AutoresetMode.SAME_STEP and self._done.any():
            info = self._final(self._done)
            self._begin_anew(self._done)
            self._done = np.zeros(self.num_envs, bool)
        return self._see(), reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """What each row dreams, uint8 (64, 64, 3), with render_mode "rgb_array"; else None.

        Raises:
            ResetNeeded: before the first reset.
        """
        if self.render_mode is None:
            gymnasium.logger.warn("nothing is drawn by a DreamEnv without render_mode='rgb_array'")
            return None
        self._check_begun()
        return tuple(self.dream.pictures().cpu().numpy())

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("this DreamEnv was closed; make another")

    def _check_begun(self) -> None:
        if not self.dream.state:
            raise ResetNeeded("a dream must be begun by reset() first, with all of its rows")

    def _mask(self, options: dict[str, Any] | None) -> np.ndarray:
        """bool (num_envs,): the rows that `options` of reset ask for."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if not isinstance(mask, np.ndarray) or mask.dtype != bool:
            raise TypeError(f"options['reset_mask'] must be a numpy array of bool; got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"options['reset_mask'] must be ({self.num_envs},) and choose a row; got {mask}")
        return mask

    def _listed(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """The seed of each row; None where it follows from the first seed that was given, now or before."""
        listed: list[int | None] = [None] * self.num_envs
        if isinstance(seed, Sequence | np.ndarray):
            if len(seed) != self.num_envs:
                raise ValueError(
                    f"a list of seeds must hold one for each of {self.num_envs} rows; got {len(seed)}",
                )
            listed = [None if one is None else whole("a seed", one, 0) for one in seed]
            given = next((one for one in listed if one is not None), None)
        else:
            given = None if seed is None else whole("a seed", seed, 0)
        if given is not None:
            super().reset(seed=given)
            self._seed = given
            self._episodes_begun = 0
        elif self._seed is None or self.np_random_seed == -1:  # -1: someone set the generator by hand
            self._seed = int(self.np_random.integers(2**31))
            self._episodes_begun = 0
        return listed

    def _begin_anew(self, mask: np.ndarray) -> None:
        if mask.any():
            self.dream.restart({row: self._next_seed() for row in rows_of(mask)})
            self._steps[mask] = 0

    def _final(self, mask: np.ndarray) -> dict[str, Any]:
        """What Gymnasium wants to be told of the rows in `mask`, whose episodes are over."""
        obs = self._see()
        info = dict[str, Any]()
        for row in rows_of(mask):
            info = self._add_info(info, {"final_obs": obs[row], "final_info": {}}, row)
        return info

    def _see(self) -> np.ndarray:
        return self.dream.features(self._inputs).cpu().numpy()

    def _next_seed(self) -> int:
        assert self._seed is not None  # reset comes first
        self._episodes_begun += 1
        return integer(self._seed, "dream", self._episodes_begun)
