"""V, M and C that begin with the weights of another run (--start-from)."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SMALL, World
from tests.stages import test_train_actor, test_train_ppo
from tests.stages.test_train_controller import link
from tests.training.test_train import stop_at
from worldmodels import models
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core import checkpoint
from worldmodels.core.errors import UserError
from worldmodels.models.heads import RewardHead
from worldmodels.models.mdnrnn import MDNRNN
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
    with pytest.raises(UserError, match=r"--start-from .*run has weights of other sizes \(hidden_size 16\); give"):
        train_memory(dataclasses.replace(world.memory, model=wide, **begins))
    rssm = RSSMSettings(reward="alive", sequence_length=10, **SMALL)
    with pytest.raises(UserError, match=r"--start-from .*run holds a mdnrnn, not a rssm; give --memory mdnrnn"):
        train_memory(dataclasses.replace(world.memory, memory="rssm", model=rssm, clip=0.0, **begins))
    with pytest.raises(UserError, match=r"--start-from .*nowhere: .*nowhere/memory/model.safetensors does not exist"):
        train_memory(dataclasses.replace(world.memory, **(begins | {"start_from": tmp_path / "nowhere"})))
    with pytest.raises(UserError, match=r"has weights of other sizes \(code_size 8\)"):
        size = VAESettings(code_size=9)
        train_vision(dataclasses.replace(world.vision, run=tmp_path / "v", model=size, start_from=world.run))
    assert not (run / "memory").exists() and not (tmp_path / "v").exists()


def test_what_a_command_writes_itself_is_not_begun_with(world: World, tmp_path: Path) -> None:
    """--fresh would delete it before anything is learnt."""
    run = link(world, tmp_path)
    config = dataclasses.replace(world.vision, run=tmp_path / "v", steps=1)
    train_vision(config)
    held = weights(config.run, "vision")
    with pytest.raises(UserError, match=r"--start-from .*v is where this command writes; give another --run"):
        train_vision(dataclasses.replace(config, start_from=config.run, fresh=True))
    assert far(weights(config.run, "vision"), held) == 0
    asked = world.controller(run=run, name="own", final_episodes=0, generations=1)
    train_controller(asked)
    with pytest.raises(UserError, match=r"--start-from .*own is where this command writes; give another --name"):
        train_controller(dataclasses.replace(asked, start_from=asked.folder, fresh=True))
    assert load_controller(asked.folder)[2]["generation"] == 1


def test_what_was_begun_is_gone_on_with_though_its_start_is_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit as if it had not been stopped; and old runs, which know of no start, are gone on with, too."""
    start = tmp_path / "start"
    shutil.copytree(world.run / "vision", start / "vision")
    ended = []
    for name in ("straight", "stopped"):
        config = dataclasses.replace(world.vision, run=tmp_path / name, start_from=start)
        if name == "stopped":
            stop_at(4, monkeypatch)
            with pytest.raises(KeyboardInterrupt):
                train_vision(config)
            monkeypatch.undo()
            shutil.rmtree(start)
        train_vision(config)
        ended.append(weights(config.run, "vision"))
    assert far(*ended) == 0
    old = dataclasses.replace(world.vision, run=tmp_path / "old")
    shutil.copytree(world.run / "vision", old.run / "vision")
    record = json.loads((old.run / "vision/config.json").read_text())
    del record["start_from"]
    (old.run / "vision/config.json").write_text(json.dumps(record))
    train_vision(old)


@pytest.mark.parametrize("spans", [((0.0, 1.0), (0.0, 5.0)), ((0.0, 2.0), (0.0, 2.0)), ((0.0, 1.0), (-2.0, 1.5))])
def test_rewards_are_expected_as_before_where_the_data_now_pays_otherwise(spans: tuple[tuple[float, ...], ...]) -> None:
    torch.manual_seed(0)
    before, now = (RewardHead(4, 16, 1, span) for span in spans)
    low, high = spans[0]
    feat = torch.randn(200, 4)
    paid = low + (high - low) * feat[:, 0].sigmoid()
    optimizer = torch.optim.Adam(before.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        before.loss(feat, paid).mean().backward()
        optimizer.step()
    now.take_over(before)
    with torch.no_grad():
        expected = before(feat).clamp(*spans[1])
        assert float((expected - expected.mean()).abs().mean()) > 0.05
        assert float((now(feat) - expected).abs().mean()) < 0.05 * (spans[1][1] - spans[1][0])


def test_an_mdn_rnn_expects_rewards_as_before_in_the_units_of_its_new_data() -> None:
    settings = MDNRNNSettings(hidden_size=6, reward="head", sequence_length=4)
    before, now = (MDNRNN(settings, 3, 1) for _ in range(2))
    before.reward_mean.fill_(0.2)
    before.reward_std.fill_(1e-3)  # of data in which hardly anything was paid
    now.reward_mean.fill_(2.0)
    now.reward_std.fill_(3.0)
    now.take_over(before)
    h = torch.randn(50, 6)
    paid = [one.predict(h).reward * one.reward_std + one.reward_mean for one in (before, now)]
    assert torch.allclose(*paid, atol=1e-5) and float(now.reward_std) == 3.0


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
        assert far(before["slow"], after["slow"]) < 0.01
        assert (after["scale"] > 0.9 * before["scale"]).all() and (before["scale"] > 0).all()
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
    with pytest.raises(UserError, match=r"has another network \(units 8\); give the --learner, --units, --layers and"):
        train_controller(on(trained, "wide", units=9))
    asked = world.controller(run=trained.run, name="evolved", final_episodes=0, generations=1)
    train_controller(asked)
    with pytest.raises(UserError, match="was evolved, and this C is to be trained; leave it out"):
        train_controller(dataclasses.replace(on(trained, "odd"), start_from=asked.folder))
    assert not (trained.run / "controller/odd").exists()
