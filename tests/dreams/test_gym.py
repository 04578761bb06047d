"""What a library that trains agents may rely on: Gymnasium's API, held by Gymnasium's own checks and wrappers."""

import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.passive_env_checker import data_shares_objects
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

from worldmodels.core.seeding import integer
from worldmodels.dreams.dream_env import DreamEnv
from worldmodels.dreams.latent_env import LatentEnv
from worldmodels.envs import make_env

INPUTS = ("z", "c", "h")
NAN = float("nan")


class OneRow(gymnasium.Env):
    """A DreamEnv of one row as a Gymnasium environment, for checks that Gymnasium has of those alone."""

    def __init__(self, model: Any, seeds: Iterator[int] | None = None, **options: Any) -> None:
        self._rows = DreamEnv(model, 1, INPUTS, autoreset_mode="Disabled", render_mode="rgb_array", **options)
        self.metadata, self.render_mode = dict(self._rows.metadata), self._rows.render_mode
        self.observation_space = self._rows.single_observation_space
        self.action_space = self._rows.single_action_space
        self._seeds = seeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        if self._seeds:
            obs, info = self._rows.reset(seed=[next(self._seeds)], options=options)
        else:
            obs, info = self._rows.reset(seed=seed, options=options)
        self._np_random = self._rows.np_random
        return obs[0], info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = self._rows.step(action[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray:
        return self._rows.render()[0]


def derived(seed: int) -> Iterator[int]:
    """The seeds of the episodes that a DreamEnv dreams from `seed`, in the order in which they begin."""
    number = 0
    while True:
        number += 1
        yield integer(seed, "dream", number)


def played(env: Any, seed: int, steps: int) -> list[tuple]:
    """All that an environment of 4 rows tells. Where nothing begins rows anew, those that ended are reset."""
    told: list[tuple] = [env.reset(seed=seed)]
    for t in range(steps):
        told.append(env.step(np.full((4, 1), np.sin(t), np.float32)))
        ended = told[-1][2] | told[-1][3]
        if env.metadata["autoreset_mode"] == AutoresetMode.DISABLED and ended.any():
            told.append(env.reset(options={"reset_mask": ended}))
    return told


def plain(told: list[tuple]) -> list[tuple]:
    """The same with rewards in one precision: SyncVectorEnv has float64."""
    return [(one[0], one[1].astype(np.float64), *one[2:]) if len(one) == 5 else one for one in told]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_go_on_as_gymnasiums_own_vector_environment_has_them_go_on(model, mode: AutoresetMode) -> None:
    """Observations, rewards, ends and infos, in every autoreset mode, beside a SyncVectorEnv of its rows."""
    seeds = derived(5)
    own = SyncVectorEnv([lambda: OneRow(model, seeds, max_steps=12)] * 4, autoreset_mode=mode)
    ours, expected = DreamEnv(model, 4, INPUTS, max_steps=12, autoreset_mode=mode), plain(played(own, 5, 80))
    found = plain(played(ours, 5, 80))
    assert len(found) == len(expected)
    for told, wanted in zip(found, expected, strict=True):
        assert data_equivalence(told, wanted), (told, wanted)
    steps = [told for told in found if len(told) == 5]
    assert sum(told[2].sum() for told in steps) > 4 and sum(told[3].sum() for told in steps) > 4
    finals = [told[4] for told in steps if told[4]]
    assert bool(finals) == (mode == AutoresetMode.SAME_STEP)


def test_the_seed_alone_decides_what_is_dreamt_not_the_mode(model) -> None:
    paid = {}
    for mode in AutoresetMode:
        env = DreamEnv(model, 4, INPUTS, max_steps=12, autoreset_mode=mode)
        paid[mode] = np.array([told[1] for told in played(env, 5, 80) if len(told) == 5]).sum()
        assert env.metadata["autoreset_mode"] is mode
    assert paid[AutoresetMode.SAME_STEP] == paid[AutoresetMode.DISABLED] == 4 * 80 > paid[AutoresetMode.NEXT_STEP]


@pytest.mark.parametrize("kind", ["dream", "latent"])
def test_gymnasiums_checker_finds_nothing_to_say(model, kind: str) -> None:
    env = OneRow(model) if kind == "dream" else LatentEnv(make_env("doom"), model, INPUTS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env)
    env.close()
    told = [str(one.message) for one in said if "WARN" in str(one.message)]
    assert any("infinity" in one for one in told)  # it is heard
    unavoidable = ("infinity. This is probably too", "not having a spec")  # features have no bounds
    assert [one for one in told if not any(words in one for words in unavoidable)] == []


def test_no_two_calls_return_the_same_memory(model) -> None:
    for mode in AutoresetMode:
        told = played(DreamEnv(model, 4, INPUTS, max_steps=3, autoreset_mode=mode), 1, 8)
        for before, after in itertools.pairwise(told):
            assert not any(data_shares_objects(one, other) for one in before for other in after)


WRAPPERS: dict[str, Any] = {
    "statistics": wrappers.RecordEpisodeStatistics,
    "listed": lambda env: wrappers.DictInfoToList(wrappers.RecordEpisodeStatistics(env)),
    "normalised rewards": wrappers.NormalizeReward,
    "clipped rewards": lambda env: wrappers.ClipReward(env, 0.0, 0.5),
    "clipped actions": wrappers.ClipAction,
    "scaled actions": lambda env: wrappers.RescaleAction(env, np.float32(0), np.float32(5)),
}
OF_OBSERVATIONS: dict[str, Any] = {  # Gymnasium's refuse SAME_STEP, whose last observations they would miss
    "flat": wrappers.FlattenObservation,
    "float64": lambda env: wrappers.DtypeObservation(env, np.float64),
    "transformed": lambda env: wrappers.TransformObservation(env, lambda obs: obs * 2),
}
ALLOWED = [(name, mode) for name in WRAPPERS for mode in AutoresetMode]
ALLOWED += [(name, mode) for name in OF_OBSERVATIONS for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)]


@pytest.mark.parametrize(("name", "mode"), ALLOWED)
def test_gymnasiums_vector_wrappers_work_on_a_dream(model, name: str, mode: AutoresetMode) -> None:
    env = (WRAPPERS | OF_OBSERVATIONS)[name](DreamEnv(model, 4, INPUTS, max_steps=12, autoreset_mode=mode))
    env.reset(seed=5)
    ends = 0
    for _ in range(30):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert obs in env.observation_space and np.isfinite(reward).all()
        ended = terminated | truncated
        ends += ended.sum()
        if mode == AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended})
    assert ends > 4
    env.close()
    assert env.unwrapped.closed


def test_observations_can_be_normalised(model) -> None:
    env = wrappers.NormalizeObservation(DreamEnv(model, 4, INPUTS, max_steps=12))  # it takes NEXT_STEP alone
    env.reset(seed=5)
    seen = np.stack([env.step(env.action_space.sample())[0] for _ in range(200)])
    assert abs(seen[50:].mean()) < 0.2


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_statistics_of_episodes_are_those_that_were_dreamt(model, mode: AutoresetMode) -> None:
    env = wrappers.RecordEpisodeStatistics(DreamEnv(model, 4, INPUTS, max_steps=12, autoreset_mode=mode))
    infos = [told[4]["episode"]["l"] for told in played(env, 5, 60) if len(told) == 5 and "episode" in told[4]]
    alone = OneRow(model, derived(5), max_steps=12)
    for row in range(4):
        alone.reset()
        steps, ended = 0, False
        while not ended:
            _, _, terminated, truncated, _ = alone.step(np.full(1, np.sin(steps), np.float32))
            steps, ended = steps + 1, terminated or truncated
        assert next(lengths[row] for lengths in infos if lengths[row]) == steps
    assert list(env.length_queue) == list(env.return_queue)  # 1 per step alive


@pytest.mark.parametrize("kind", ["dream", "latent"])
def test_actions_are_clipped_to_the_space_and_must_be_numbers(model, kind: str) -> None:
    rows = (2,) if kind == "dream" else ()
    env = DreamEnv(model, 2, INPUTS) if rows else LatentEnv(make_env("doom"), model, INPUTS)
    seen = []
    for action in (1.0, 7.0, np.inf):
        env.reset(seed=3)
        seen.append([env.step(np.full((*rows, 1), action, np.float32))[0] for _ in range(3)])
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])
    env.reset(seed=3)
    with pytest.raises(ValueError, match="not a number"):
        env.step(np.full((*rows, 1), NAN, np.float32))
    with pytest.raises(ValueError, match=re.escape(f"the shape {(*rows, 1)}; got {(*rows, 2)}")):
        env.step(np.zeros((*rows, 2), np.float32))
    for t in range(3):  # nothing has happened by what was refused
        assert np.array_equal(env.step(np.full((*rows, 1), 1.0, np.float32))[0], seen[0][t])
    env.close()


def test_what_was_not_begun_or_is_closed_says_so(model) -> None:
    env = DreamEnv(model, 2, INPUTS, render_mode="rgb_array")
    for call in (env.render, lambda: env.step(np.zeros((2, 1), np.float32))):
        with pytest.raises(ResetNeeded, match=r"reset\(\) first"):
            call()
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError, match="was closed"):
        env.reset()
    real = LatentEnv(make_env("doom"), model, INPUTS)
    for call in (real.render, lambda: real.step(np.zeros(1, np.float32))):
        with pytest.raises(ResetNeeded, match=r"reset\(\) first"):
            call()
    real.close()
    real.close()
