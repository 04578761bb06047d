"""Short dreams begin in the midst of real episodes, with what really happened until then in M's memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core.errors import UserError
from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.data.embeddings import Embeddings
from worldmodels.data.store import Rollouts
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.moments import EACH, moments, some_episodes
from worldmodels.evolution.evaluators import DreamEvaluator
from worldmodels.models.perceive import Eyes
from worldmodels.settings.envspec import EnvSpec
from worldmodels.stages.train_controller import train_controller
from worldmodels.workers.local import Workers


@pytest.fixture
def spec(world: World) -> ControllerSpec:
    return ControllerSpec(EnvSpec("doom"), world.run, ("z", "c", "h"), 0, False, 40, "fp32")


def test_a_moment_is_what_open_eyes_leave_in_memory(world: World, model) -> None:
    vision, _ = models.load_module(world.run / "vision", "vision")
    episodes = some_episodes(
        Embeddings(world.collect.data / "codes", Rollouts(world.collect.data / "rollouts", "doom"), vision)
    )
    found = moments(model, episodes, seed=3)
    assert len(found["z"]) == EACH * len(episodes)
    assert {name: value.shape[1:] for name, value in found.items()} == {
        name: value.shape[1:] for name, value in model.initial(1).items()
    }
    luck = rng(3, "moments")
    at = np.stack([luck.integers(len(episode.action), size=EACH) for episode in episodes])
    by_hand = []
    for number, episode in enumerate(episodes):
        noise = Noise([integer(3, "moments", number)], model.noise_size)
        eyes = Eyes(model, 1)
        for t in range(int(at[number].max()) + 1):
            state = eyes.see_code(torch.from_numpy(episode.embed[t : t + 1]).float(), noise.draw())
            by_hand += [(t, number, state["c"][0].clone())] * int((at[number] == t).sum())
            eyes.did(torch.from_numpy(episode.action[t : t + 1]))
    expected = torch.stack([c for _, _, c in sorted(by_hand, key=lambda one: one[:2])])
    assert torch.allclose(found["c"].float(), expected, atol=2e-3)
    assert expected.std(0).max() > 0.01  # else any state would do


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
