"""An actor and a critic, as users train them: stage 4 with --learner actor-critic."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import SMALL, World
from tests.stages.test_train_controller import history, link
from worldmodels import models
from worldmodels.acting.actor import Actor
from worldmodels.acting.controller_spec import FILE, Network, load_controller, save_controller
from worldmodels.core.errors import UserError
from worldmodels.data.rollouts import Rollouts
from worldmodels.page.contents import Pilot
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.models import ActorCriticSettings, RSSMSettings
from worldmodels.settings.stages import ControllerConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory

TINY = ActorCriticSettings(
    updates=5, batch_size=8, imagine=4, starts=32, units=8, layers=1, save_every=2, learning_rate=1e-2
)


def asked(world: World, run: Path, **changes: object) -> ControllerConfig:
    common = {"run": run, "learner": "actor-critic", "model": TINY, "tau": (1.15,), "inputs": (), "test_every": 3}
    return world.controller(**(common | changes))


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> ControllerConfig:
    config = asked(world, link(world, tmp_path_factory.mktemp("run")))
    train_controller(config)
    return config


def test_what_people_look_at_is_there(trained: ControllerConfig) -> None:
    assert trained.folder.name == "actor-critic-tau1.15"
    for name, magic in (("fitness.png", b"PNG"), ("reality.mp4", b"ftyp"), ("dream.mp4", b"ftyp")):
        assert magic in (trained.folder / name).read_bytes()[:12]
    assert list((trained.folder / "tensorboard").glob("events.*"))
    lines = history(trained.folder)
    assert all({"test_mean", "real_mean", "actor_loss", "critic_loss", "entropy"} <= line.keys() for line in lines)
    text = (trained.folder / "controller.json").read_text()
    assert "after 5 updates" in text and "trained in dreams at" in text
    assert "--learner actor-critic" in text and "--updates 5" in text


def test_it_is_a_controller_like_any_other(trained: ControllerConfig, world: World, tmp_path: Path) -> None:
    """Evaluated, played with, led by on the page, and saved again."""
    scores = evaluate(EvaluateConfig(run=trained.run, episodes=2, dream=True, workers=0, baselines=False))
    assert [score.n for score in scores.values()] == [2, 2]
    spec, params, _ = load_controller(trained.run)
    assert spec.actor == Network(8, 1, ((-1.0,), (0.0,), (1.0,))) and spec.inputs == ("z", "c", "h")
    assert params.dtype == np.float32 and len(params) == Actor(40, 1, 8, 1, spec.actor.choices).num_params
    model = models.load(trained.run, precision="fp32")
    state = {name: value[:1] for name, value in model.moments.items()}
    acted = Pilot(model, trained.folder).act(state)
    actor = spec.new_actor(model)
    given = actor.given(torch.from_numpy(params)[None])
    assert acted.shape == (1,) and acted[0] in (-1, 0, 1)
    assert torch.equal(torch.from_numpy(acted)[None], actor.act(given, model.features(state, spec.inputs)))
    rollouts = dataclasses.replace(world.collect, data=tmp_path, episodes=2, shard_size=2, max_steps=20)
    collect(dataclasses.replace(rollouts, policy=str(trained.folder), noise=0.2))
    done = Rollouts(tmp_path / "rollouts", "doom").shards[0].read("action")
    assert len(np.unique(done)) > 3  # choices, and noise about them


def test_numbers_on_another_m(world: World, tmp_path: Path) -> None:
    """With an RSSM, whose samples gradients pass; deterministic actions of any size come of it, and z is seen."""
    run = link(world, tmp_path)
    (run / "memory").unlink()
    rssm = RSSMSettings(reward="alive", sequence_length=10, **SMALL)
    train_memory(dataclasses.replace(world.memory, run=run, memory="rssm", model=rssm, clip=0.0, real_episodes=0))
    settings = dataclasses.replace(TINY, actions="numbers")
    config = asked(world, run, model=settings, final_episodes=0, sample_end=True, horizon=10, name="numbers")
    train_controller(config)
    spec, params, about = load_controller(config.folder)
    assert spec.inputs == ("z", "h") and spec.actor and not spec.actor.choices and about["sample_end"]
    new = dataclasses.replace(settings, updates=1)
    torch.manual_seed(0)
    assert Actor(24, 1, new.units, new.layers).num_params == len(params)
    assert all(np.isfinite(line["actor_loss"]) for line in history(config.folder))


def test_what_cannot_be_is_refused_in_a_line(trained: ControllerConfig, world: World, tmp_path: Path) -> None:
    run = link(world, tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        train_controller(asked(world, run, data=tmp_path / "nowhere"))
    assert not (run / "controller").exists()
    with pytest.raises(UserError, match="was trained, and this C is to be evolved; leave it out"):
        train_controller(world.controller(run=run, start_from=trained.folder, dream=False, name="on"))
    with pytest.raises(UserError, match="--inputs proj is not among"):
        train_controller(asked(world, run, inputs=("proj",)))
    with pytest.raises(UserError, match="actor-critic has settings of its own, ActorCriticSettings, not ModelSett"):
        world.controller(learner="actor-critic")
    other = dataclasses.replace(TINY, units=4)
    with pytest.raises(UserError, match="was begun with --units 8, not 4"):
        train_controller(dataclasses.replace(trained, model=other))


def test_a_file_of_an_actor_that_cannot_be_is_told_of(trained: ControllerConfig, world: World, tmp_path: Path) -> None:
    spec, params, about = load_controller(trained.folder)
    run = link(world, tmp_path)
    told = {key: value for key, value in about.items() if key != "folder"}
    path = run / "controller/odd" / FILE
    for actor, message in (
        (Network(8, 1, ((0.0, 1.0),)), "holds an actor that cannot be: a choice has 2 numbers, but an action 1"),
        (Network(65_536, 100, ()), "holds [0-9]+ numbers, but its controller has"),
        (Network(8, 1, ((5.0,),)), "a number from -1 to 1 should be there"),
    ):
        save_controller(path, dataclasses.replace(spec, run=run, actor=actor), params, told)
        with pytest.raises(UserError, match=message):
            load_controller(path.parent)
    save_controller(path, dataclasses.replace(spec, run=run), params, told)
    again, same, _ = load_controller(path.parent)
    assert np.array_equal(same, params) and again.actor == spec.actor
