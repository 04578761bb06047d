"""Short dreams begin in the midst of real episodes, with what really happened until then in M's memory."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core.errors import UserError
from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.data.rollouts import Rollouts
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.dream_env import DreamEnv
from worldmodels.dreams.moments import (
    AHEAD,
    MANY,
    STRONGEST,
    end_shift,
    moments,
    share_of_ends,
    shift_for,
    some_episodes,
)
from worldmodels.dreams.play import Player, by_itself
from worldmodels.evolution.evaluators import DreamEvaluator
from worldmodels.models.perceive import Eyes
from worldmodels.settings.envspec import EnvSpec
from worldmodels.stages.train_controller import train_controller
from worldmodels.workers.local import Workers


@pytest.fixture
def spec(world: World) -> ControllerSpec:
    return ControllerSpec(EnvSpec("doom"), world.run, ("z", "c", "h"), 0, False, 40, "fp32")


@pytest.fixture
def episodes(world: World) -> list[EmbeddedEpisode]:
    vision, _ = models.load_module(world.run / "vision", "vision")
    data = world.collect.data
    return some_episodes(Embeddings(data / "codes", Rollouts(data / "rollouts", "doom"), vision))


def test_a_moment_is_what_open_eyes_leave_in_memory(model, episodes: list[EmbeddedEpisode]) -> None:
    found = moments(model, episodes, seed=3)
    assert len(found.states["z"]) == len(found.step) == len(found.episode) == MANY
    assert {name: value.shape[1:] for name, value in found.states.items()} == {
        name: value.shape[1:] for name, value in model.initial(1).items()
    }
    for row in (0, 700, MANY - 1):
        episode = episodes[found.episode[row]]
        noise = Noise([integer(3, "moments", int(found.episode[row]))], model.noise_size)
        eyes = Eyes(model, 1)
        for t in range(found.step[row] + 1):
            state = eyes.see_code(torch.from_numpy(episode.embed[t : t + 1]).float(), noise.draw())
            eyes.did(torch.from_numpy(episode.action[t : t + 1]))
        for name, value in state.items():
            assert torch.allclose(found.states[name][row], value[0], atol=1e-5)
    assert found.states["c"].std(0).max() > 0.01  # else any state would do


def test_all_steps_of_all_episodes_are_alike(model, episodes: list[EmbeddedEpisode]) -> None:
    short, long = episodes[0], episodes[1]
    short = short._replace(embed=short.embed[:6], action=short.action[:5])
    found = moments(model, [short, long], seed=0)
    assert np.mean(found.episode == 0) == pytest.approx(5 / (5 + len(long.action)), abs=0.03)
    steps = found.step[found.episode == 1]
    assert steps.min() == 0
    assert steps.max() == len(long.action) - 1
    assert steps.mean() == pytest.approx((len(long.action) - 1) / 2, abs=2)


@pytest.mark.parametrize("true", [-1.5, 0.0, 0.7])
def test_the_shift_of_ends_is_found_where_it_is_known(true: float) -> None:
    logits = torch.randn(500, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 5
    share = float(1 - (1 - torch.sigmoid(logits + true)).prod(1).mean())
    assert shift_for(torch.sigmoid(logits), share) == pytest.approx(true, abs=1e-3)


def test_dreams_end_as_often_as_episodes_once_ends_are_shifted(model, episodes: list[EmbeddedEpisode]) -> None:
    ended = [episode._replace(terminated=number % 2 == 0) for number, episode in enumerate(episodes)]
    found = moments(model, ended, seed=0)
    assert -STRONGEST <= end_shift(model, found, ended, 1.0, seed=0) <= STRONGEST
    left = np.array([len(ended[e].action) - t for e, t in zip(found.episode, found.step, strict=True)])
    died = np.array([ended[e].terminated for e in found.episode])
    assert left.max() <= AHEAD and len(left) == MANY  # of these few steps, all are within reach
    assert died.mean() < share_of_ends(left, died) <= 1  # those that were cut would have died, too, some of them
    assert end_shift(model, found, [one._replace(terminated=False) for one in ended], 1.0, seed=0) == 0.0


def test_where_episodes_are_cut_makes_no_difference_to_how_many_end() -> None:
    rng = np.random.default_rng(0)
    lived = rng.geometric(0.004, 200_000)
    whole = share_of_ends(lived, np.ones(len(lived), bool))
    assert whole == pytest.approx(1 - 0.996**AHEAD, abs=0.003)
    cut = rng.integers(20, 400, len(lived))
    assert share_of_ends(np.minimum(lived, cut), lived <= cut) == pytest.approx(whole, abs=0.01)
    assert share_of_ends(cut, np.zeros(len(cut), bool)) == 0


def test_shifted_ends_come_sooner_and_decided_ends_as_before(model) -> None:
    lengths = {}
    for shift in (0.0, 2.0):
        shifted = copy.copy(model)
        shifted.end_shift = shift
        for sample_end in (True, False):
            dream = Dream(shifted, sample_end=sample_end)
            still = Player(dream, by_itself, 60).play(list(range(64)), torch.zeros(64, 1))
            lengths[shift, sample_end] = still.lengths
    assert torch.equal(lengths[0.0, False], lengths[2.0, False])
    assert float(lengths[2.0, True].mean()) < 0.8 * float(lengths[0.0, True].mean())


def test_short_dreams_begin_at_moments_chosen_by_their_seeds(model) -> None:
    seeds = [5, 6, 7]
    dream = Dream(model, midway=True)
    dream.begin(seeds, copies=2)
    chosen = [int(rng(seed, "start").integers(len(model.moments["h"]))) for seed in seeds]
    for name, value in dream.state.items():
        assert torch.equal(value, model.moments[name][chosen + chosen])
    dream.begin(seeds)
    dream.step(torch.ones(3, 1))
    dream.restart({1: 7})
    assert torch.equal(dream.state["h"][1], model.moments["h"][chosen[2]])
    assert not torch.equal(dream.state["h"][0], model.moments["h"][chosen[0]])
    again = Dream(model, midway=True)
    again.begin([7])
    dream.step(torch.zeros(3, 1))
    again.step(torch.zeros(1, 1))
    assert torch.allclose(dream.state["z"][1], again.state["z"][0], atol=1e-6)  # noise of its own, too


def test_scores_of_short_dreams_are_the_same_for_any_workers(world: World, spec: ControllerSpec) -> None:
    here = models.cached(world.run, models.fingerprint(world.run), "fp32")
    params = np.random.default_rng(0).normal(0, 1, (5, 40))
    alone = DreamEvaluator(here, spec, 1.0, sample_end=True, horizon=12).evaluate(params, [1, 2, 3])
    assert alone.lengths.max() == 12
    assert alone.lengths.min() < 12
    with Workers(1) as workers:
        found = DreamEvaluator(here, spec, 1.0, True, workers, horizon=12).evaluate(params, [1, 2, 3])
    assert np.array_equal(found.returns, alone.returns)


def test_an_m_that_kept_no_moments_is_refused_and_dreams_on_otherwise(world: World, tmp_path: Path) -> None:
    (tmp_path / "vision").symlink_to(world.run / "vision")
    memory, extra = models.load_module(world.run / "memory", "memory")
    about = {name: extra[name] for name in ("env", "vision_fingerprint", "starts")}
    models.save_module(memory, tmp_path / "memory", "memory", **about)
    with pytest.raises(UserError, match=r"--horizon: .*memory kept no moments of episodes; run stage 3 again"):
        train_controller(world.controller(run=tmp_path, horizon=10, generations=1))
    Dream(models.load(tmp_path)).begin([1])
    damaged = about | {"moments": {"z": torch.zeros(3, 8).half()}}
    models.save_module(memory, tmp_path / "memory", "memory", **damaged)
    with pytest.raises(UserError, match="moments of another model"):
        models.load(tmp_path)


def test_dreams_of_an_agent_librarys_may_begin_midway_too(model) -> None:
    env = DreamEnv(model, 2, ("h",), max_steps=5, midway=True)
    seen, _ = env.reset(seed=[5, 6])
    chosen = [int(rng(seed, "start").integers(MANY)) for seed in (5, 6)]
    assert np.allclose(seen, model.moments["h"][chosen].numpy())
    bare = copy.copy(model)
    bare.moments = {}
    with pytest.raises(ValueError, match="midway: this M kept no moments"):
        DreamEnv(bare, 2, ("h",), midway=True)
