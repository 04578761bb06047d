"""PPO in dreams, as users train by it: stage 4 with --learner ppo."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import World
from tests.stages.test_train_controller import link
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core.errors import UserError
from worldmodels.learners.ppo_dreams import DreamPPO
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.models import PPOSettings
from worldmodels.settings.stages import ControllerConfig
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.train_controller import train_controller

TINY = PPOSettings(updates=5, rows=6, decisions=4, hold=2, units=8, layers=1, batch_size=8, epochs=2, save_every=2)


def asked(world: World, run: Path, **changes: object) -> ControllerConfig:
    common = {"run": run, "learner": "ppo", "model": TINY, "tau": (1.15,), "inputs": (), "test_every": 3}
    return world.controller(**(common | {"horizon": 10, "sample_end": True} | changes))


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> ControllerConfig:
    config = asked(world, link(world, tmp_path_factory.mktemp("run")))
    train_controller(config)
    return config


def test_what_comes_of_it_is_a_controller_like_any_other(trained: ControllerConfig) -> None:
    assert trained.folder.name == "ppo-tau1.15"
    for name, magic in (("fitness.png", b"PNG"), ("reality.mp4", b"ftyp"), ("dream.mp4", b"ftyp")):
        assert magic in (trained.folder / name).read_bytes()[:12]
    text = (trained.folder / "controller.json").read_text()
    assert "after 5 updates" in text and "--learner ppo" in text
    spec, *_ = load_controller(trained.folder)
    assert spec.actor is not None and spec.actor.scaled and spec.actor.choices == ((-1.0,), (0.0,), (1.0,))
    scores = evaluate(EvaluateConfig(run=trained.run, episodes=2, dream=True, workers=0, baselines=False))
    assert [score.n for score in scores.values()] == [2, 2]


def test_it_learns_in_whole_dreams_and_by_numbers(world: World, tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, actions="numbers", updates=2)
    config = asked(world, link(world, tmp_path), model=settings, horizon=0, final_episodes=0)
    train_controller(dataclasses.replace(config, dry_run=True))
    train_controller(config)
    spec, params, _ = load_controller(config.folder)
    assert spec.actor is not None and not spec.actor.choices and np.isfinite(params).all()


def test_it_learns_in_worlds_that_are_each_a_little_wrong(
    pairs: dict, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pairs["vae", "rssm"]  # whose M was trained with dropout
    own = []
    begin = DreamPPO._begin
    monkeypatch.setattr(DreamPPO, "_begin", lambda self, count, luck: own.append(begin(self, count, luck)) or own[-1])
    settings = dataclasses.replace(TINY, updates=2)
    common = {"model": settings, "horizon": 0, "final_episodes": 0, "inputs": ("h",), "dream_dropout": 0.2}
    train_controller(asked(pair, link(pair, tmp_path), **common))
    hidden = torch.cat([state["world"] for state in own]) == 0
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.1) and (hidden[1:] != hidden[:-1]).any(1).all()
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"--dream-dropout 0\.2: M was not trained with --dropout"):
        train_controller(asked(world, link(world, tmp_path / "other"), **common))


def test_what_dreams_cannot_serve_is_refused(world: World, trained: ControllerConfig) -> None:
    with pytest.raises(
        UserError, match="--learner ppo learns by how likely dreams are to end; leave out --no-sample-end"
    ):
        asked(world, trained.run, sample_end=False)
    with pytest.raises(UserError, match="ppo has settings of its own, PPOSettings, not ModelSettings"):
        world.controller(learner="ppo")
    with pytest.raises(UserError, match="was begun with --rows 6, not 7"):
        train_controller(dataclasses.replace(trained, model=dataclasses.replace(TINY, rows=7)))
