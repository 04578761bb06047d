"""What a library that trains agents may rely on: Gymnasium's API, held by Gymnasium's own checks and wrappers."""

import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.passive_env_checker import data_shares_objects
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

from worldmodels import models
from worldmodels.core.seeding import integer
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.gym import DreamEnv, LatentEnv
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


def test_a_dream_can_be_watched(model) -> None:
    env = DreamEnv(model, 3, INPUTS, render_mode="rgb_array")
    assert env.render_mode in env.metadata["render_modes"] and env.metadata["render_fps"] > 0
    env.reset(seed=1)
    env.step(np.zeros((3, 1), np.float32))
    pictures = env.render()
    assert isinstance(pictures, tuple) and len(pictures) == 3
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in pictures)
    z = torch.from_numpy(env.step(np.zeros((3, 1), np.float32))[0][:, : model.code_size])
    expected = model.vision.decode(z).numpy()
    assert np.array_equal(np.stack(env.render()), expected) and not np.array_equal(expected, np.stack(pictures))
    blind = DreamEnv(model, 3, INPUTS)
    blind.reset(seed=1)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert blind.render() is None


@pytest.mark.parametrize("pair", [("vae", "rssm"), ("hrssm", "mdnrnn"), ("hrssm", "rssm")])
def test_every_pair_of_models_begins_some_rows_anew_and_leaves_the_others_be(pairs, pair: tuple[str, str]) -> None:
    """Right after the first reset too, when the state is what the model made of nothing."""
    world, rows = models.load(pairs[pair].run, precision="fp32"), np.array([False, True, False])
    env = DreamEnv(world, 3, world.default_inputs, render_mode="rgb_array")
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=[None, 9, None], options={"reset_mask": rows})
    assert np.array_equal(again[~rows], first[~rows])
    fresh, _ = DreamEnv(world, 3, world.default_inputs).reset(seed=[9, 9, 9])
    np.testing.assert_allclose(again[1], fresh[1], rtol=1e-5, atol=1e-6)
    for t in range(70):  # past one block of noise
        obs, *_ = env.step(np.full((3, world.action_size), np.sin(t), np.float32))
    assert len(env.render()) == 3 and obs in env.observation_space


def test_a_row_begun_anew_has_the_dream_of_its_seed(model) -> None:
    dream, alone = Dream(model), Dream(model)
    dream.begin([1, 2])
    for _ in range(10):
        dream.step(torch.zeros(2, 1))
    dream.restart({1: 9})
    alone.begin([9, 9])
    for t in range(80):
        assert torch.equal(dream.features(INPUTS)[1], alone.features(INPUTS)[1])
        dream.step(torch.full((2, 1), np.sin(t)))
        alone.step(torch.full((2, 1), np.sin(t)))


def test_some_rows_can_be_reset_and_the_users_options_stay_as_they_are(model) -> None:
    env = DreamEnv(model, 4, INPUTS, autoreset_mode="Disabled")
    options = {"reset_mask": np.array([True, False, False, True]), "of another environment": 1}
    with pytest.raises(ResetNeeded, match="all of its rows"):
        env.reset(seed=1, options=options)
    env.reset(seed=1)
    before = env.step(np.zeros((4, 1), np.float32))[0]
    after, info = env.reset(options=options)
    assert np.array_equal(after[1:3], before[1:3]) and not after[[0, 3], 8:].any() and info == {}
    assert set(options) == {"reset_mask", "of another environment"}


def test_a_row_whose_episode_is_over_is_not_stepped_when_nothing_resets_it(model) -> None:
    env = DreamEnv(model, 2, INPUTS, max_steps=1, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=1)
    env.step(np.zeros((2, 1), np.float32))
    with pytest.raises(ResetNeeded, match=re.escape("rows [0, 1] are over")):
        env.step(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"tau": NAN}, ValueError, "tau nan is no temperature"),
        ({"tau": 0.0}, ValueError, "tau 0.0 is no temperature"),
        ({"tau": float("inf")}, ValueError, "tau inf is no temperature"),
        ({"max_steps": 0}, ValueError, "max_steps must be at least 1; got 0"),
        ({"max_steps": 2.5}, TypeError, "max_steps must be a whole number; got 2.5"),
        ({"num_envs": 0}, ValueError, "num_envs must be at least 1; got 0"),
        ({"inputs": ("z", "y")}, ValueError, "inputs must be a tuple of some of z, h, c; got ('z', 'y')"),
        ({"inputs": "zh"}, ValueError, "inputs must be a tuple of some of z, h, c; got 'zh'"),
        ({"inputs": ()}, ValueError, "inputs must be a tuple of some of z, h, c; got ()"),
        ({"autoreset_mode": "Never"}, ValueError, "'Never' is not a valid AutoresetMode"),
        ({"render_mode": "human"}, ValueError, "render_mode 'human' is unknown"),
    ],
)
def test_what_makes_no_dream_is_refused(model, changes: dict, error: type, says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        DreamEnv(model, **({"num_envs": 2, "inputs": INPUTS} | changes))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"seed": [1, 2]}, ValueError, "must hold one for each of 3 rows; got 2"),
        ({"seed": np.arange(4)}, ValueError, "must hold one for each of 3 rows; got 4"),
        ({"seed": -1}, ValueError, "a seed must be at least 0; got -1"),
        ({"seed": [1, -2, 3]}, ValueError, "a seed must be at least 0; got -2"),
        ({"seed": 1.5}, TypeError, "a seed must be a whole number; got 1.5"),
        ({"options": {"reset_mask": [True, False, True]}}, TypeError, "must be a numpy array of bool"),
        ({"options": {"reset_mask": np.ones(3)}}, TypeError, "must be a numpy array of bool"),
        ({"options": {"reset_mask": np.ones(2, bool)}}, ValueError, "must be (3,) and choose a row"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, ValueError, "must be (3,) and choose a row"),
    ],
)
def test_a_reset_that_makes_no_sense_is_refused_and_changes_nothing(
    model, arguments: dict, error: type, says: str
) -> None:
    told = []
    for wrong in (False, True):
        env = DreamEnv(model, 3, INPUTS)
        env.reset(seed=4)
        if wrong:
            with pytest.raises(error, match=re.escape(says)):
                env.reset(**arguments)
        told.append([env.step(np.zeros((3, 1), np.float32))[0], env.reset()[0]])
    assert np.array_equal(*told)


def test_numpys_seeds_are_seeds_in_lists_and_alone(model) -> None:
    env = DreamEnv(model, 3, INPUTS)
    listed = [env.reset(seed=seeds)[0] for seeds in ([3, 4, 5], (3, 4, 5), np.array([3, 4, 5]))]
    assert np.array_equal(listed[0], listed[1]) and np.array_equal(listed[0], listed[2])
    assert env.np_random_seed == 3
    env.reset(seed=np.int64(7))
    assert env.np_random_seed == 7


def test_a_generator_set_by_hand_decides_the_dreams_that_follow(model) -> None:
    seen = []
    for _ in range(2):
        env = DreamEnv(model, 3, INPUTS)
        env.reset(seed=1)
        env.np_random = np.random.default_rng(8)
        seen.append([env.reset()[0], env.reset()[0]])
    assert np.array_equal(*seen) and not np.array_equal(*seen[0])


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


def test_an_ignored_action_may_be_anything(model) -> None:
    env = DreamEnv(model, 2, INPUTS, max_steps=1)
    env.reset(seed=3)
    env.step(np.zeros((2, 1), np.float32))
    obs, reward, *_ = env.step(np.full((2, 1), NAN, np.float32))
    assert np.isfinite(obs).all() and not reward.any()


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


def test_a_latent_env_refuses_what_its_model_does_not_know(model) -> None:
    doom = make_env("doom")
    with pytest.raises(ValueError, match="max_steps must be at least 1"):
        LatentEnv(doom, model, INPUTS, max_steps=0)
    with pytest.raises(ValueError, match="inputs must be a tuple of some of z, h, c"):
        LatentEnv(doom, model, ("x",))
    with pytest.raises(ValueError, match="the model was trained on the shape"):
        LatentEnv(make_env("doom", shrink=False), model, INPUTS)
    with pytest.raises(ValueError, match="the model was trained on the shape"):
        LatentEnv(make_env("dmc:reacher-easy"), model, INPUTS)
    env = LatentEnv(doom, model, INPUTS)
    first, same = (env.reset(seed=seed)[0] for seed in (4, np.int64(4)))
    picture = env.render()
    assert np.array_equal(first, same) and picture.dtype == np.uint8 and picture.shape[2] == 3
    assert env.render_mode in env.metadata["render_modes"] and env.metadata["render_fps"] > 0
    with pytest.raises(TypeError, match="a seed must be a whole number"):
        env.reset(seed=1.5)
    env.close()


def test_dream_env_is_a_vector_env_that_resets_itself(model) -> None:
    env = DreamEnv(model, 8, INPUTS, tau=1.0, max_steps=25)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    obs, _ = env.reset(seed=3)
    assert obs in env.observation_space and obs.shape == (8, 40)
    ends, done = 0, np.zeros(8, bool)
    steps = np.zeros(8, int)
    for _ in range(120):
        action = env.action_space.sample()
        obs, reward, terminated, truncated, _ = env.step(action)
        assert obs in env.observation_space and not (terminated & truncated).any()
        assert (reward[done] == 0).all() and (reward[~done] == 1).all()  # a row that restarts is not paid
        memory = obs[:, 8:]
        assert not memory[done].any()  # and remembers nothing
        steps = np.where(done, 0, steps + 1)
        assert (truncated == ((steps == 25) & ~terminated)).all()
        done = terminated | truncated
        ends += done.sum()
    assert ends > 8


def test_dream_env_repeats_itself_from_the_same_seed(model) -> None:
    env = DreamEnv(model, 4, INPUTS, max_steps=25)
    films = []
    for _ in range(2):
        obs = [env.reset(seed=5)[0]]
        obs += [env.step(np.full((4, 1), np.sin(t), np.float32))[0] for t in range(60)]
        films.append(np.stack(obs))
    assert np.array_equal(*films)
    assert not np.array_equal(env.reset(seed=6)[0], films[0][0])
    assert np.array_equal(env.reset(seed=np.int64(5))[0], films[0][0])
    fresh = (DreamEnv(model, 4, INPUTS, max_steps=25) for _ in range(2))
    first, second = (one.reset()[0] for one in fresh)
    assert not np.array_equal(first, second)  # no seed, no repetition


def test_latent_env_has_the_spaces_of_the_dream_and_the_ends_of_reality(model) -> None:
    dreamt = DreamEnv(model, 2, INPUTS)
    env = LatentEnv(make_env("doom"), model, INPUTS, max_steps=15)
    assert env.observation_space == dreamt.single_observation_space
    assert env.action_space == dreamt.single_action_space
    obs, _ = env.reset(seed=4)
    assert env.observation_space.contains(obs)
    steps, truncated = 0, False
    while not truncated:
        obs, reward, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        steps += 1
        assert env.observation_space.contains(obs) and reward == 1.0 and not terminated
    env.close()
    assert steps == 15


def test_latent_env_tells_memory_what_was_done(model, monkeypatch: pytest.MonkeyPatch) -> None:
    env, given = LatentEnv(make_env("doom"), model, INPUTS), []
    original = type(model).observe

    def observe(self, state, action, embed, is_first, noise):
        given.append((float(action[0, 0]), float(is_first[0, 0])))
        return original(self, state, action, embed, is_first, noise)

    monkeypatch.setattr(type(model), "observe", observe)
    env.reset(seed=4)
    for value in (0.5, -0.25, 1.0):
        env.step(np.array([value], np.float32))
    env.reset(seed=4)
    env.close()
    assert given == [(0.0, 1.0), (0.5, 0.0), (-0.25, 0.0), (1.0, 0.0), (0.0, 1.0)]
