"""Who acts in a rollout: policies that see nothing, or V, M and C together.

One agent plays a group of episodes.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from worldmodels.acting.actions import bounded
from worldmodels.acting.actor import Actor
from worldmodels.acting.controller import Acts
from worldmodels.acting.policies import POLICIES
from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import Eyes


class Agent(Protocol):
    """Plays a group of episodes side by side."""

    sees: bool  # whether it looks at `obs`

    def begin(self, seeds: list[int]) -> None:
        """A new group: one row per seed."""
        ...

    def act(self, obs: list[np.ndarray], rows: list[int], step: int) -> np.ndarray:
        """Actions float32 (n, A) for the n rows that still play.

        Args:
            obs: what each of these rows is shown, uint8 (64, 64, 3); of any size if the agent does not see.
            rows: which of the group they are.
            step: since the episodes began.
        """
        ...


class Seeing(Agent, Protocol):
    """An agent that sees by a world model, so that it can be filmed: ModelAgent; and one that plans
    (dreams/planning_agent.py)."""

    model: WorldModel

    @property
    def state(self) -> State:
        """Of the rows that still play: what they have seen and done."""
        ...


class BlindAgent:
    """Plays one of `policies.POLICIES`; each episode has a policy and a generator of its own."""

    sees = False

    def __init__(self, policy: str, action_size: int) -> None:
        self._make = POLICIES[policy]
        self._action_size = action_size

    def begin(self, seeds: list[int]) -> None:
        self._policies = [self._make(rng(seed, "policy"), self._action_size) for seed in seeds]

    def act(self, obs: list[np.ndarray], rows: list[int], step: int) -> np.ndarray:
        return np.array([self._policies[row](step) for row in rows])


class ModelAgent:
    """V sees, M remembers, C acts.

    Args:
        model: any WorldModel.
        controller: C.
        inputs: the parts of the features that C gets.
        params: (D,) for all rows, or (P, D).
        action_noise: standard deviation of noise added to the actions, to explore.
        which: of the P each row has; without, there is one for each row.
    """

    sees = True

    def __init__(
        self,
        model: WorldModel,
        controller: Acts,
        inputs: tuple[str, ...],
        params: np.ndarray,
        action_noise: float = 0.0,
        which: np.ndarray | None = None,
    ) -> None:
        self.model = model
        self._controller = controller
        self._inputs = inputs
        given = controller.given(torch.tensor(np.atleast_2d(params), dtype=torch.float32))
        self._given = given if which is None else given[torch.from_numpy(which)]
        self._action_noise = action_noise

    def begin(self, seeds: list[int]) -> None:
        self._noise = Noise(seeds, self.model.noise_size, self.model.starts.device)
        self._explore = [rng(seed, "explore") for seed in seeds]
        self._rows = list(range(len(seeds)))
        self._eyes = Eyes(self.model, len(seeds))
        self._row_given = self._given.expand(len(seeds), -1)

    @property
    def state(self) -> State:
        """Of the rows that still play: what they have seen and done."""
        return self._eyes.state

    def act(self, obs: list[np.ndarray], rows: list[int], step: int) -> np.ndarray:
        if rows != self._rows:
            self._keep(rows)
        self._eyes.see(torch.from_numpy(np.stack(obs)), self._noise.draw()[rows])
        action = self._decide(self._eyes.features(self._inputs).cpu(), rows, step)
        self._eyes.did(action)
        return action.numpy()

    def _decide(self, feat: Tensor, rows: list[int], step: int) -> Tensor:
        """Actions (n, A) of those rows at features (n, F)."""
        action = self._controller.act(self._row_given, feat)
        if self._action_noise:
            draws = [self._explore[row].normal(0, self._action_noise, action.shape[1]) for row in rows]
            action = (action + torch.tensor(np.stack(draws), dtype=torch.float32)).clamp(-1, 1)
        return action

    def _keep(self, rows: list[int]) -> None:
        """Rows whose episode is over leave the batch."""
        index = torch.tensor([self._rows.index(row) for row in rows])
        self._eyes.keep(index)
        self._row_given = self._row_given[index]
        self._rows = rows


class TryingAgent(ModelAgent):
    """An actor that tries things, and keeps what it saw and did: it samples its actions.

    Args:
        model: any WorldModel.
        actor: samples.
        inputs: the parts of the features that it gets.
        params: (D,), its numbers.
        hold: steps that a decision lasts.
        by_chance: whether decisions are those of an actor that prefers nothing.
    """

    def __init__(
        self,
        model: WorldModel,
        actor: Actor,
        inputs: tuple[str, ...],
        params: np.ndarray,
        hold: int,
        by_chance: bool = False,
    ) -> None:
        super().__init__(model, actor, inputs, params)
        self._actor = actor
        self._hold = hold
        self._by_chance = by_chance
        self._decisions: list[list[tuple[Tensor, Tensor]]] = []

    def begin(self, seeds: list[int]) -> None:
        super().begin(seeds)
        self._luck = Noise([integer(seed, "tries") for seed in seeds], self._actor.actions.noise_size)
        self._doing = torch.zeros(len(seeds), self._actor.action_size)
        self._decisions += [[] for _ in range(len(seeds) - len(self._decisions))]

    def told(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a row's last episode: features (K, F) at its K decisions, and the actions (K, A) as sampled; float32."""
        feat, action = zip(*self._decisions[row], strict=True)
        return torch.stack(feat).numpy(), torch.stack(action).numpy()

    @torch.no_grad()
    def _decide(self, feat: Tensor, rows: list[int], step: int) -> Tensor:
        if step == 0:  # of a group, or of those rows of it that are played anew
            for row in rows:
                self._decisions[row] = []
        if step % self._hold == 0:
            feat = feat.float()
            action = self._sample(feat, self._luck.draw()[rows])
            self._doing[rows] = bounded(action)
            for i, row in enumerate(rows):
                self._decisions[row].append((feat[i], action[i]))
        return self._doing[rows]

    def _sample(self, feat: Tensor, luck: Tensor) -> Tensor:
        actions = self._actor.actions
        stats = torch.zeros(len(feat), actions.stats_size) if self._by_chance else self._actor(feat)
        return actions.sample(stats, luck)
