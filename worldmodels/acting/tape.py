"""One real episode as it happens, and what came of it."""

from dataclasses import dataclass

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.envs.images import to_obs

AT_ONCE = 16  # pictures that are made small together, while they still lie in the cache

Truth = dict[str, np.ndarray]
"""The true state that an environment tells: name -> float32 (n,)."""


@dataclass(frozen=True)
class Outcome:
    """What came of one episode."""

    seed: int
    episode_return: float
    length: int
    terminated: bool
    rewards: np.ndarray  # float32 (length,)
    given_up: bool  # after too many steps that paid nothing
    episode: Episode | None = None
    truth: Truth | None = None  # (T+1, n) each: beside every frame of the episode
    failures: tuple[str, ...] = ()  # how the environment failed in those that this one was played instead of


class Tape:
    """One episode as it happens; it is over, too, once it was paid nothing for `patience` steps on end (0: never)."""

    def __init__(self, seed: int, obs: np.ndarray, record: bool, truth: Truth | None = None, patience: int = 0) -> None:
        self._seed = seed
        self._patience = patience
        self._unpaid = 0  # steps since it was paid
        self._record = record
        self._shown = list[np.ndarray]()  # as they came
        self._obs = list[np.ndarray]()  # made small, some at a time
        self._actions = list[np.ndarray]()
        self._rewards = list[float]()
        self._truths = list[Truth]()
        self.done = self._terminated = self._given_up = False
        self._keep(obs, truth)

    def add(
        self,
        action: np.ndarray,
        reward: float,
        obs: np.ndarray,
        terminated: bool,
        truncated: bool,
        truth: Truth | None = None,
    ) -> None:
        self._rewards.append(reward)
        self._unpaid = 0 if reward > 0 else self._unpaid + 1
        if self._record:
            self._actions.append(np.array(action, np.float32))
        self._keep(obs, truth)
        self._terminated = terminated
        self._given_up = 0 < self._patience <= self._unpaid and not (terminated or truncated)
        self.done = terminated or truncated or self._given_up

    def _keep(self, obs: np.ndarray, truth: Truth | None) -> None:
        if truth is not None:
            self._truths.append(truth)
        if self._record:
            self._shown.append(obs)
            if len(self._shown) == AT_ONCE:
                self._shrink()

    def _shrink(self) -> None:
        self._obs.append(to_obs(self._shown))
        self._shown = []

    def outcome(self) -> Outcome:
        episode = None
        rewards = np.array(self._rewards, np.float32)
        if self._record:
            if self._shown:
                self._shrink()
            episode = Episode(
                obs=np.concatenate(self._obs),
                action=np.stack(self._actions),
                reward=rewards,
                terminated=self._terminated,
                truncated=not self._terminated,
                seed=self._seed,
            )
        truth = _in_a_row(self._truths) if self._truths else None
        paid = float(np.sum(self._rewards))
        return Outcome(self._seed, paid, len(rewards), self._terminated, rewards, self._given_up, episode, truth)


def _in_a_row(truths: list[Truth]) -> Truth:
    """What was told of each frame, as (T+1, n)."""
    return {name: np.stack([truth[name] for truth in truths]) for name in truths[0]}
