"""What a killed command was writing is removed by the same command, begun again."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import World
from worldmodels import models
from worldmodels.core import checkpoint
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def half_written(folder: Path, name: str, process: int) -> Path:
    path = folder / f".{name}.{process}.tmp"
    path.write_bytes(b"half")
    return path


def test_beside_shards_codes_plots_and_films(world: World, tmp_path: Path, dead: int) -> None:
    data = tmp_path / "data"
    run = tmp_path / "run"
    shutil.copytree(world.data, data)
    shutil.copytree(world.run, run, ignore=shutil.ignore_patterns("controller"))
    vision, _ = models.load_module(run / "vision", "vision")
    codes = data / "codes" / checkpoint.fingerprint(vision.state_dict())

    shard = half_written(data / "rollouts", "held-seed0-000003.h5", dead)
    collect(dataclasses.replace(world.collect, data=data))
    assert not shard.exists()

    for train, config in ((train_vision, world.vision), (train_memory, world.memory)):
        code = half_written(codes, "held-seed0-000003.h5", dead)
        train(dataclasses.replace(config, data=data, run=run))
        assert not code.exists()

    (run / "controller").mkdir()
    plot = half_written(run / "controller", "sweep.png", dead)
    config = dataclasses.replace(world.controller(tau=(1.0,), generations=1), data=data, run=run)
    train_controller(config)
    assert not plot.exists()

    film = half_written(config.folder, "reality.mp4", dead)
    evaluate(EvaluateConfig(run=config.folder, episodes=2, workers=0, video=False, baselines=False, dream=False))
    assert not film.exists()
