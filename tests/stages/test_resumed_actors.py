"""Actors whose training was stopped end as those whose was not, to the bit, by whichever learner."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import World
from tests.stages import test_train_actor, test_train_ppo, test_train_ppo_real
from tests.stages.test_train_controller import history, link
from tests.training.test_train import stop_at
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core import checkpoint
from worldmodels.learners.actor_critic import ActorCritic
from worldmodels.learners.ppo import PPO
from worldmodels.learners.ppo_real import RealPPO
from worldmodels.settings.stages import ControllerConfig
from worldmodels.stages.train_controller import train_controller


def stands(config: ControllerConfig) -> tuple[int, int]:
    """After how many updates the checkpoint was made, and the best of all tests before it."""
    saved = checkpoint.load(config.folder / "checkpoint.safetensors", "controller run")
    return saved["step"], saved["best"]["generation"]


def logged(config: ControllerConfig) -> list[dict]:
    """All lines of metrics, but for what is only shown beside."""
    return [{k: v for k, v in line.items() if not k.startswith("real_")} for line in history(config.folder)]


@pytest.mark.parametrize(
    ("tests", "learner", "steps"),
    [
        (test_train_actor, ActorCritic, [3, 5]),
        (test_train_ppo, PPO, [1, 2, 3, 4, 5]),
        (test_train_ppo_real, RealPPO, [1, 2, 3, 4, 5]),
    ],
)
def test_resume_equals_never_having_stopped(
    tests: Any, learner: Any, steps: list[int], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a test, before its checkpoint; then stopped by Ctrl-C, which waits for the update in hand. Real
    episodes, which only the one that was not stopped plays, change nothing."""
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
    straight = tests.asked(world, link(world, tmp_path / "straight"))
    unseen = {"final_episodes": 0} if straight.dream else {}
    config = tests.asked(world, link(world, tmp_path / "stopped"), **unseen)
    train_controller(straight)
    stop_at(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_controller(config)
    monkeypatch.undo()
    assert stands(config) == (2, 0)
    original = learner.update

    def update(self: Any) -> dict:
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self)

    monkeypatch.setattr(learner, "update", update)
    with pytest.raises(KeyboardInterrupt):
        train_controller(config)
    monkeypatch.undo()
    assert stands(config) == (4, 3)
    train_controller(config)
    (params, about), (resumed, again) = (load_controller(one.folder)[1:] for one in (straight, config))
    assert np.array_equal(params, resumed) and about["generation"] == again["generation"] in (3, 5)
    lines = logged(straight)
    assert lines == logged(config) and [line["step"] for line in lines] == steps
    assert lines[0]["actor_loss"] != lines[-1]["actor_loss"]
