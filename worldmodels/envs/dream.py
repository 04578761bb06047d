"""Dreams: a world model as an environment, many episodes as one batch.

A dream begins where a real episode began, with its first observation seen through V. From there on the model's own
expectation, at temperature tau, is all the world there is (CLASSIC 2.7).
"""

import operator
import secrets
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodels.models.base import State, WorldModel
from worldmodels.seeding import Noise, integer, rng


class Dream:
    """Rows of dreams that go on side by side.

    Every seed is an episode with luck of its own; rows that dream the same seed meet the same start and the same
    noise, so that candidates can be compared.

    Args:
        model: what dreams.
        tau: temperature: above 1 the dream is less predictable than the world it was learnt from.
        sample_end: an episode ends with the predicted probability; otherwise when the model decides so.
    """

    def __init__(self, model: WorldModel, tau: float = 1.0, sample_end: bool = False) -> None:
        self.model, self.tau, self._sample_end = model, tau, sample_end
        self.device = model.starts.device
        self.state: State = {}

    def begin(self, seeds: list[int], copies: int = 1) -> None:
        """Starts `copies` x len(seeds) rows; row i dreams seed number i % len(seeds)."""
        size = self.model.noise_size + 1  # the last number decides sampled ends
        self._noise = Noise(seeds, size, self.device)
        self._episode = torch.arange(len(seeds), device=self.device).repeat(copies)
        self.state = self._start(self._first_embed(seeds)[self._episode], self.draw())

    @torch.no_grad()
    def features(self, parts: tuple[str, ...]) -> Tensor:
        """float32 (B, F), what a controller gets."""
        return self.model.features(self.state, parts).float()

    @torch.no_grad()
    def step(self, action: Tensor, restarts: dict[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Advances all rows by `action` (B, A), except that rows in `restarts` begin a new episode instead.

        Args:
            restarts: row -> seed; only for a dream begun with one copy.

        Returns:
            reward float32 (B,) and terminated bool (B,); both are zero for rows that restarted.
        """
        for row, seed in (restarts or {}).items():
            self._noise.restart(row, seed)
        noise = self.draw()
        self.state, reward, terminated = self.following(self.state, action, noise)
        if restarts:
            rows = torch.tensor(list(restarts), device=self.device)
            fresh = self._start(self._first_embed(list(restarts.values())), noise[rows])
            for name, value in self.state.items():
                value[rows] = fresh[name]
            reward[rows], terminated[rows] = 0.0, False
        return reward, terminated

    @torch.no_grad()
    def following(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """What follows `state` by `action` with `noise` from `draw`: the next state, reward and terminated.

        Nothing else is looked at or changed, so that it can be captured as a CUDA graph.
        """
        state, reward, end, terminated = self.model.imagine(state, action, noise[:, :-1], self.tau)
        return state, reward, end > noise[:, -1] if self._sample_end else terminated

    def draw(self) -> Tensor:
        """The next step's noise, float32 (B, N + 1)."""
        return self._noise.draw()[self._episode]

    def keep(self, rows: Tensor) -> None:
        """Only `rows` (indices) dream on."""
        self.state = {name: value[rows] for name, value in self.state.items()}
        self._episode = self._episode[rows]

    def _first_embed(self, seeds: list[int]) -> Tensor:
        starts = self.model.starts
        return starts[[int(rng(seed, "start").integers(len(starts))) for seed in seeds]]

    @torch.no_grad()
    def _start(self, embed: Tensor, noise: Tensor) -> State:
        nothing = torch.zeros(len(embed), self.model.action_size, device=self.device)
        first = torch.ones(len(embed), 1, device=self.device)
        return self.model.observe(self.model.initial(len(embed)), nothing, embed, first, noise[:, :-1])


class DreamEnv(VectorEnv):
    """A dream as a Gymnasium vector environment, for any library that trains agents in those.

    Observations are features (float32, as a controller gets them), actions as in every environment of ours. A row
    whose episode is over begins another with the next step, whose action is ignored (AutoresetMode.NEXT_STEP).
    `envs.latent.LatentEnv` is the real environment with the same two spaces.

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
