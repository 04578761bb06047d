import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from worldmodels.acting.agents import BlindAgent
from worldmodels.acting.rollout import rollout


class Counter(gymnasium.Env):
    """Shows its seed and step; ends after `seed` steps; pays the step."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self.seed, self.steps = seed or 0, 0
        return self._see(), self._tell()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        return self._see(), float(self.steps), self.steps == self.seed, False, self._tell()

    def _tell(self) -> dict:
        return {"truth": {"place": np.array([self.seed, self.steps], np.float32)}}

    def _see(self) -> np.ndarray:
        obs = np.zeros((64, 64, 3), np.uint8)
        obs[0, 0] = (self.seed, self.steps, 0)
        return obs


class Checking(BlindAgent):
    """Asserts that each row is shown its own episode at the current step."""

    def act(self, obs: np.ndarray, rows: list[int], step: int) -> np.ndarray:
        for seen, row in zip(obs, rows, strict=True):
            assert tuple(seen[0, 0]) == (self.seeds[row], step, 0)
        return super().act(obs, rows, step)

    def begin(self, seeds: list[int]) -> None:
        self.seeds = seeds
        super().begin(seeds)


def test_episodes_of_different_lengths_keep_apart() -> None:
    seeds = [3, 9, 1, 6]
    outcomes = rollout([Counter() for _ in seeds], Checking("uniform", 2), seeds, max_steps=7, record=True)
    assert [o.length for o in outcomes] == [3, 7, 1, 6]
    assert [o.terminated for o in outcomes] == [True, False, True, True]
    assert [o.episode_return for o in outcomes] == [6, 28, 1, 21]
    for seed, outcome in zip(seeds, outcomes, strict=True):
        episode = outcome.episode
        assert episode is not None and episode.seed == seed and len(episode) == outcome.length
        assert episode.truncated == (not outcome.terminated)  # a time limit is no termination
        assert episode.obs[:, 0, 0, 1].tolist() == list(range(outcome.length + 1))
        assert episode.reward.tolist() == list(range(1, outcome.length + 1))


def test_an_episode_is_the_same_alone_and_in_company() -> None:
    company = rollout([Counter() for _ in range(3)], BlindAgent("brownian", 2), [5, 8, 6], 20, record=True)
    alone = rollout([Counter()], BlindAgent("brownian", 2), [5, 8, 6], 20, record=True)
    pairs = rollout([Counter() for _ in range(2)], BlindAgent("brownian", 2), [5, 8, 6], 20, record=True)
    for one, other, third in zip(company, alone, pairs, strict=True):
        assert np.array_equal(one.episode.action, other.episode.action)
        assert np.array_equal(one.episode.action, third.episode.action)


def test_nothing_is_recorded_unless_asked() -> None:
    assert rollout([Counter()], BlindAgent("still", 2), [4], 20)[0].episode is None


def test_the_truth_is_kept_beside_every_frame_if_asked() -> None:
    envs, agent = [Counter(), Counter()], BlindAgent("still", 2)
    for seed, outcome in zip((4, 2, 9), rollout(envs, agent, [4, 2, 9], 6, record=True, truth=True), strict=True):
        assert list(outcome.truth) == ["place"] and outcome.truth["place"].dtype == np.float32
        assert outcome.truth["place"].tolist() == [[seed, step] for step in range(outcome.length + 1)]
    assert rollout(envs, agent, [4], 6, record=True)[0].truth is None


def test_watch_sees_every_step_of_the_first_row() -> None:
    seen: list[int] = []
    rollout([Counter(), Counter()], BlindAgent("still", 2), [4, 9], 20, watch=lambda step, env, obs: seen.append(step))
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("limit", [1, 4])
def test_termination_on_the_last_allowed_step_is_a_termination(limit: int) -> None:
    assert rollout([Counter()], BlindAgent("still", 2), [limit], limit)[0].terminated


class Miser(Counter):
    """Pays 1 at steps 1, 2 and 5, and takes 0.1 at all others."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, 1.0 if self.steps in (1, 2, 5) else -0.1, terminated, truncated, info


@pytest.mark.parametrize(("patience", "length"), [(0, 12), (1, 3), (2, 4), (3, 8), (4, 9), (7, 12)])
def test_an_episode_that_is_paid_nothing_for_too_long_is_cut(patience: int, length: int) -> None:
    (outcome,) = rollout([Miser()], BlindAgent("still", 2), [20], 12, patience=patience)
    assert outcome.length == length and not outcome.terminated
    assert outcome.given_up == (length < 12)
    (ended,) = rollout([Miser()], BlindAgent("still", 2), [3], 12, patience=patience)
    assert (ended.length, ended.terminated) == (3, True)
