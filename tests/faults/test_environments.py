"""What users' environments do wrong is named, costs an episode and no run, and is not blamed on models."""

import random
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.faults.habits import Dies
from worldmodels.acting.agents import BlindAgent
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.core.errors import UserError
from worldmodels.data.rollouts import Rollouts
from worldmodels.envs import make_env
from worldmodels.envs.checked import Misstep
from worldmodels.envs.foreign import GLOBAL
from worldmodels.settings.models import VAESettings
from worldmodels.settings.stages import CollectConfig, VisionConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.train_vision import train_vision

STILL = np.zeros(2, np.float32)


def habit(name: str, **options: Any) -> gymnasium.Env:
    return make_env(name_of(name), shrink=False, **options)


def name_of(name: str) -> str:
    return f"tests.faults.habits:{name}-v0"


def collection(folder: Path, name: str, **changes: Any) -> CollectConfig:
    settings = {"env": name_of(name), "data": folder, "workers": 0, "episodes": 16, "shard_size": 8, "max_steps": 30}
    return CollectConfig(**(settings | changes))


def played(config: CollectConfig) -> list[bytes]:
    """All that a collection holds."""
    shards = Rollouts(config.data / "rollouts", config.spec.label).shards
    return [b"".join(shard.read(name).tobytes() for name in ("obs", "action", "reward")) for shard in shards]


def same(one: Outcome, other: Outcome) -> bool:
    assert one.episode is not None and other.episode is not None
    return all(np.array_equal(getattr(one.episode, x), getattr(other.episode, x)) for x in ("obs", "action", "reward"))


# An episode in which the environment fails


@pytest.mark.parametrize(
    ("name", "what"),
    [("Raises", r"RuntimeError: simulator: state is invalid \(habits\.py:\d+\)"), ("NanReward", "a reward of nan")],
)
def test_it_is_played_anew_and_told(name: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    collect(collection(tmp_path, name))
    rollouts = Rollouts(tmp_path / "rollouts", name_of(name))
    failures = [told for shard in rollouts.shards for told in shard.attributes["failures"]]
    assert rollouts.num_episodes == 16 and rollouts.num_steps == 16 * 20 and 2 <= len(failures) <= 10
    printed = capsys.readouterr().out
    assert re.search(rf"episodes played anew after an error +{len(failures)}\n", printed)
    last = rf"\(last: --env {re.escape(name_of(name))}, seed \d+, step \d+: {what}\)\n"
    assert re.search(rf"note: episodes played anew .*: {len(failures)} {last}", printed)


def test_what_is_played_instead_depends_neither_on_workers_nor_on_what_came_before(tmp_path: Path) -> None:
    for workers in (0, 2):
        collect(collection(tmp_path / str(workers), "GlobalLuck", workers=workers))
    assert played(collection(tmp_path / "0", "GlobalLuck")) == played(collection(tmp_path / "2", "GlobalLuck"))


def test_those_beside_it_go_on_as_if_nothing_had_happened() -> None:
    seeds = list(range(12))
    company = rollout([habit("Raises") for _ in range(4)], BlindAgent("brownian", 2), seeds, 30, record=True)
    alone = rollout([habit("Raises")], BlindAgent("brownian", 2), seeds, 30, record=True)
    assert 1 <= sum(bool(o.failures) for o in company) <= 8
    assert all(same(one, other) and one.failures == other.failures for one, other in zip(company, alone, strict=True))
    assert [o.seed for o in company if not o.failures] == [
        s for s, o in zip(seeds, company, strict=True) if not o.failures
    ]


def test_all_who_are_given_its_seed_meet_the_same_luck_instead() -> None:
    (failing, *_) = (o for o in rollout([habit("Raises")], BlindAgent("still", 2), list(range(12)), 30) if o.failures)
    seed = int(re.findall(r"seed (\d+)", failing.failures[0])[0])
    outcomes = rollout([habit("Raises") for _ in range(3)], BlindAgent("still", 2), [seed] * 3, 30)
    assert {o.seed for o in outcomes} == {failing.seed} != {seed}


class Steady(BlindAgent):
    """Each row has an action of its own, as each candidate has."""

    def begin(self, seeds: list[int]) -> None:
        self.count = len(seeds)

    def act(self, obs: list[np.ndarray], rows: list[int], step: int) -> np.ndarray:
        return np.array([[row / self.count, -row / self.count] for row in rows], np.float32)


def test_it_is_played_anew_by_the_same_candidate() -> None:
    outcomes = rollout([habit("Raises") for _ in range(8)], Steady("still", 2), list(range(8)), 30, record=True)
    assert any(o.failures for o in outcomes[1:])
    for row, outcome in enumerate(outcomes):
        assert outcome.episode is not None and (outcome.episode.action[:, 0] == np.float32(row / 8)).all()


def test_an_environment_that_raised_is_made_anew() -> None:
    before = Dies.made
    outcomes = rollout([habit("Dies")], BlindAgent("still", 2), list(range(12)), 30)
    failed = sum(len(o.failures) for o in outcomes)
    assert {o.length for o in outcomes} == {20} and failed >= 1 and Dies.made == before + 1 + failed


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("RaisesAlways", r"step 3: ValueError: three is too many .*; and so 10 times on end: .* cannot be played"),
        ("RaisesMostly", r"reset: RuntimeError: no room .*; more than half of the episodes fail like that"),
    ],
)
def test_where_it_is_the_rule_it_is_refused_in_one_line(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^--env {re.escape(name_of(name))}, seed \d+, {what}$"):
        collect(collection(tmp_path, name, episodes=32, shard_size=32))


def test_an_error_of_mujocos_is_told_as_what_it_is() -> None:
    env = make_env("dmc:cartpole-swingup")
    env.reset(seed=0)
    env.unwrapped._env.physics.data.qvel[:] = 1e200  # type: ignore[attr-defined]
    with pytest.raises(Misstep, match=r"--env dmc:cartpole-swingup, seed 0, step 1: PhysicsError: .*mjWARN_BAD"):
        env.step(np.zeros(1, np.float32))
    assert env.reset(seed=0)[0].any()
    env.close()


def test_weights_that_are_not_numbers_are_not_blamed_on_the_environment() -> None:
    agent = Steady("still", 2)
    agent.sees, agent.act = True, lambda obs, rows, step: np.full((1, 2), np.nan)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="V, M or C holds weights that are not numbers"):
        rollout([habit("Honest")], agent, [0], 30)


# What comes in


@pytest.mark.parametrize(
    ("at", "what", "said"),
    [
        (0, np.zeros((64, 65, 3), np.uint8), r"a picture of uint8 \(64, 65, 3\), where its space says \(64, 64, 3\)"),
        (0, np.zeros((64, 64, 4), np.uint8), r"a picture of uint8 \(64, 64, 4\)"),
        (0, np.full((64, 64, 3), 256.0), "a picture of 256 to 256, where its space says 0 to 255"),
        (0, np.full((64, 64, 3), np.nan), "a picture of nan to nan"),
        (0, None, "a picture that is none"),
        (1, float("inf"), "a reward of inf"),
        (1, 1e39, r"a reward of 1e\+39"),  # more than float32 holds
        (1, None, "a reward that is no number: None"),
        (1, [0.5, 0.5], r"a reward that is no number: \[0.5, 0.5\]"),
        (2, "over", "an end that is neither true nor false: over"),
        (3, float("nan"), "an end that is neither true nor false: nan"),
    ],
)
def test_what_cannot_be_used_is_named_with_environment_seed_and_step(at: int, what: object, said: str) -> None:
    env = habit("Odd", at=at, what=what)
    env.reset(seed=7)
    env.step(STILL)
    env.step(STILL)
    with pytest.raises(Misstep, match=rf"^--env {re.escape(name_of('Odd'))}, seed 7, step 3: {said}"):
        env.step(STILL)


@pytest.mark.parametrize("name", ["Palette", "FloatPalette", "FloatPictures"])
def test_pictures_are_scaled_by_the_bounds_that_their_space_declares(name: str) -> None:
    honest, other = habit("Honest"), habit(name)
    assert np.array_equal(honest.reset(seed=3)[0], other.reset(seed=3)[0])
    assert other.observation_space == honest.observation_space == spaces.Box(0, 255, (64, 64, 3), np.uint8)
    for _ in range(5):
        assert np.array_equal(honest.step(STILL + 0.7)[0], other.step(STILL + 0.7)[0])


def test_pictures_that_never_use_their_range_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    told = "note: pictures use 0 to 15 of 0 to 255"
    collect(collection(tmp_path, "Dark"))
    assert told in capsys.readouterr().out
    where: dict[str, Any] = {"env": name_of("Dark"), "data": tmp_path, "run": tmp_path / "run", "workers": 0}
    train_vision(VisionConfig(**where, steps=2, batch_size=8, shuffle_buffer=50, model=VAESettings(code_size=4)))
    assert told in capsys.readouterr().out
    collect(collection(tmp_path / "honest", "Honest"))
    assert "note" not in capsys.readouterr().out


# Global generators


def test_an_environment_that_draws_from_them_depends_on_its_seed_alone() -> None:
    seeds, agent = [5, 8, 6, 2], BlindAgent("still", 2)
    company = rollout([habit("GlobalLuck") for _ in seeds], agent, seeds, 30, record=True)
    GLOBAL.seed(1)
    random.seed(1)
    alone = rollout([habit("GlobalLuck")], agent, seeds[::-1], 30, record=True)[::-1]
    assert all(same(one, other) for one, other in zip(company, alone, strict=True))
    assert not same(company[0], company[1])


def test_whoever_else_draws_from_them_meets_none_of_it() -> None:
    def drawn(env: gymnasium.Env | None) -> list[float]:
        GLOBAL.seed(4)
        random.seed(4)
        mine = []
        for step in range(6):
            if env:
                env.reset(seed=step) if step % 3 == 0 else env.step(STILL)
            mine += [GLOBAL.random(), random.random()]
        return mine

    assert drawn(habit("GlobalLuck")) == drawn(None)


@pytest.mark.parametrize("name", ["doom", "carracing", "dmc:reacher-easy"])
def test_our_own_environments_draw_from_generators_of_their_own(name: str) -> None:
    """So they pay nothing for `Luck`."""
    env = make_env(name)
    before = random.getstate(), str(GLOBAL.get_state(legacy=False))
    env.reset(seed=1)
    for _ in range(20):
        env.step(np.ones(env.action_space.shape, np.float32))  # type: ignore[arg-type]
    env.close()
    assert before == (random.getstate(), str(GLOBAL.get_state(legacy=False)))


# The APIs of others


def test_arrays_of_one_are_numbers_and_no_info_is_an_empty_one() -> None:
    env, honest = habit("Arrays"), habit("Honest")
    env.reset(seed=1)
    honest.reset(seed=1)
    for step in range(1, 21):
        _, reward, terminated, truncated, info = env.step(STILL)
        assert type(reward) is float and reward == pytest.approx(honest.step(STILL)[1])
        assert terminated is (step == 20) and truncated is False and info == {}


@pytest.mark.parametrize("name", ["Old", "Older"])
def test_the_api_of_old_is_understood_seeds_and_time_limit_included(name: str) -> None:
    first, again, other = (
        rollout([habit(name)], BlindAgent("still", 2), [seed], 30, record=True)[0] for seed in (3, 3, 4)
    )
    assert first.length == 12 and not first.terminated
    assert same(first, again) and not same(first, other)


def test_bounds_that_are_as_good_as_none_get_actions_as_they_are() -> None:
    env = habit("Wide")
    env.reset(seed=0)
    for action, given in (([-1, -1], [-1, 0]), ([0.5, 0.5], [0.5, 3]), ([1, 1], [1, 4])):
        env.step(np.array(action, np.float32))
        assert env.unwrapped.env.unwrapped.given == pytest.approx(given)  # type: ignore[attr-defined]
