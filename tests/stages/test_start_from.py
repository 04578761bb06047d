"""V, M and C that begin with the weights of another run (--start-from)."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SMALL, World
from tests.stages import test_train_actor, test_train_ppo
from tests.stages.test_train_controller import link
from worldmodels import models
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core import checkpoint
from worldmodels.core.errors import UserError
from worldmodels.settings.models import MDNRNNSettings, RSSMSettings, VAESettings
from worldmodels.settings.stages import ControllerConfig
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

STILL = {"learning_rate": 1e-9, "final_learning_rate": 1e-9}  # so that what it began with is what comes out


def far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """How much the two differ at most."""
    assert one.keys() == other.keys()
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def weights(run: Path, kind: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = models.load_module(run / kind, kind)[0].state_dict()
    return found


def test_v_and_m_begin_with_those_of_another_run(world: World, tmp_path: Path) -> None:
    new = {"run": tmp_path, "steps": 1, **STILL}
    train_vision(dataclasses.replace(world.vision, start_from=world.run, seed=5, **new))
    assert far(weights(tmp_path, "vision"), weights(world.run, "vision")) < 1e-6
    train_memory(dataclasses.replace(world.memory, start_from=world.run, real_episodes=0, seed=5, **new))
    assert far(weights(tmp_path, "memory"), weights(world.run, "memory")) < 1e-6
    anew = dataclasses.replace(world.memory, real_episodes=0, seed=5, fresh=True, **new)
    train_memory(anew)
    assert far(weights(tmp_path, "memory"), weights(world.run, "memory")) > 0.1


def test_those_of_other_sizes_and_kinds_are_refused_before_anything_is_written(world: World, tmp_path: Path) -> None:
    run = link(world, tmp_path)
    (run / "memory").unlink()
    begins = {"run": run, "start_from": world.run, "real_episodes": 0}
    wide = MDNRNNSettings(hidden_size=20, restart_input=True, reward="alive", sequence_length=10)
    with pytest.raises(UserError, match=r"--start-from .*run has other settings than are asked for: .* of another sh"):
        train_memory(dataclasses.replace(world.memory, model=wide, **begins))
    rssm = RSSMSettings(reward="alive", sequence_length=10, **SMALL)
    with pytest.raises(UserError, match=r"--start-from .*run holds a mdnrnn, not a rssm; give --memory mdnrnn"):
        train_memory(dataclasses.replace(world.memory, memory="rssm", model=rssm, clip=0.0, **begins))
    with pytest.raises(UserError, match=r"nowhere/memory/model.safetensors does not exist"):
        train_memory(dataclasses.replace(world.memory, **(begins | {"start_from": tmp_path / "nowhere"})))
    with pytest.raises(UserError, match="other settings than are asked for"):
        size = VAESettings(code_size=9)
        train_vision(dataclasses.replace(world.vision, run=tmp_path / "v", model=size, start_from=world.run))
    assert not (run / "memory").exists() and not (tmp_path / "v").exists()


@pytest.fixture(scope="module", params=[test_train_actor, test_train_ppo], ids=["actor-critic", "ppo"])
def learner(request: pytest.FixtureRequest) -> Any:
    """The tests of a learner, which know how it is asked for."""
    return request.param


@pytest.fixture(scope="module")
def trained(learner: Any, world: World, tmp_path_factory: pytest.TempPathFactory) -> ControllerConfig:
    config: ControllerConfig = learner.asked(world, link(world, tmp_path_factory.mktemp("run")), final_episodes=0)
    train_controller(config)
    return config


def on(trained: ControllerConfig, name: str, **changes: Any) -> ControllerConfig:
    """One more update, from `trained` on."""
    still = dataclasses.replace(trained.model, updates=1, learning_rate=1e-9, **changes)
    return dataclasses.replace(trained, name=name, model=still, seed=5, start_from=trained.folder)


def search(config: ControllerConfig) -> dict[str, Any]:
    found: dict[str, Any] = checkpoint.load(config.folder / "checkpoint.safetensors", "controller run")["search"]
    return found


def test_an_actor_begins_with_another_and_with_its_critic(
    trained: ControllerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = on(trained, "on")
    train_controller(config)
    (begun, _), (ended, _) = (load_controller(one.folder)[1:] for one in (trained, config))
    assert ended == pytest.approx(begun, abs=1e-6) and np.abs(begun).max() > 0.1
    before, after = search(trained), search(config)
    assert far(before["critic"], after["critic"]) < 1e-6 and after["step"] == 1
    if "slow" in before:
        assert far(before["slow"], after["slow"]) < 0.01 and before["scale"].abs().max() > 0
    assert "begins anew" not in capsys.readouterr().out


def test_without_its_checkpoint_the_critic_begins_anew_and_that_is_said(
    trained: ControllerConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = on(trained, "alone")
    kept = trained.folder / "checkpoint.safetensors"
    aside = kept.rename(tmp_path / "aside")
    train_controller(config)
    aside.rename(kept)
    assert f"note: {kept} is not there, so the critic begins anew" in capsys.readouterr().out
    assert far(search(trained)["critic"], search(config)["critic"]) > 0.01


def test_another_network_or_what_was_evolved_is_refused(trained: ControllerConfig, world: World) -> None:
    with pytest.raises(UserError, match="has another network; give its --learner, --units, --layers and --actions"):
        train_controller(on(trained, "wide", units=9))
    asked = world.controller(run=trained.run, name="evolved", final_episodes=0, generations=1)
    train_controller(asked)
    with pytest.raises(UserError, match="was evolved, and this C is to be trained; leave it out"):
        train_controller(dataclasses.replace(on(trained, "odd"), start_from=asked.folder))
    assert not (trained.run / "controller/odd").exists()
