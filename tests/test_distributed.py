"""Two processes do what one does with the doubled batch, and write once."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import processes
from tests.conftest import World
from tests.training.test_train import metrics
from worldmodels import models
from worldmodels.core import checkpoint
from worldmodels.core.errors import UserError
from worldmodels.stages.train_vision import train_vision

ROOT = Path(__file__).parents[1]
MODELS = ["vision", "memory", "hrssm/vision"]


def torchrun(*words: object) -> subprocess.CompletedProcess:
    """Two processes on this machine's processor."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "--"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def done(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that processes.py fills."""
    out = tmp_path_factory.mktemp("processes")
    finished = torchrun(ROOT / "tests/processes.py", world.data, out)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("M of doom after 6 steps") == 1  # and by one of the processes alone
    return out


@pytest.mark.parametrize("model", ["vision", "memory"])
def test_without_noise_two_processes_are_one_with_the_doubled_batch(
    world: World, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    processes.without_noise(monkeypatch.setattr)
    if model == "memory":
        (tmp_path / "vision").symlink_to(done / "straight/vision")
    asked = processes.configs(world.data, tmp_path)[model]
    processes.train_one(dataclasses.replace(asked, batch_size=2 * asked.batch_size))
    two, one = metrics(done / "straight" / model), metrics(tmp_path / model)
    assert one[-1]["loss"] < 0.98 * one[0]["loss"]
    for both, alone in zip(two, one, strict=True):
        assert both == pytest.approx(alone, rel=1e-3)
    carried, expected = (
        checkpoint.load(run / model / "checkpoint.safetensors", f"{model} run")["carry"]
        for run in (done / "straight", tmp_path)
    )
    assert set(carried) == set(expected) == ({"h", "c"} if model == "memory" else set())
    for name, value in expected.items():  # of all rows, in their order
        assert torch.allclose(carried[name], value, atol=1e-4) and value.abs().max() > 0.01


@pytest.mark.parametrize("model", MODELS)
def test_all_processes_end_with_the_same_weights_and_a_model(done: Path, model: str) -> None:
    folder = done / "straight" / model
    first, second = (torch.load(folder / f"weights-{rank}.pt") for rank in (0, 1))
    kept = models.load_module(folder, "memory" if model == "memory" else "vision")[0].state_dict()
    assert set(first) == set(second) == set(kept)
    assert all(torch.equal(first[name], second[name]) and torch.equal(first[name], kept[name]) for name in first)


@pytest.mark.parametrize("model", MODELS)
def test_resume_of_two_equals_never_having_stopped(done: Path, model: str) -> None:
    straight, again = (metrics(done / name / model) for name in ("straight", "again"))
    assert straight == again and [line["step"] for line in straight][:3] == [2, 4, 6]
    first, second = (torch.load(done / name / model / "weights-1.pt") for name in ("straight", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_number_of_processes_is_refused(world: World, done: Path) -> None:
    config = processes.configs(world.data, done / "straight")["vision"]
    with pytest.raises(UserError, match=r"begun by 2 processes, not 1; give torchrun --nproc_per_node=2, or .*--fresh"):
        train_vision(dataclasses.replace(config, fresh=False))


@pytest.mark.slow
def test_stage_2_by_torchrun_learns_as_one_process_with_the_doubled_batch(world: World, tmp_path: Path) -> None:
    one = dataclasses.replace(world.vision, run=tmp_path / "one", batch_size=32, steps=20, save_every=5)
    train_vision(one)
    flags = f"--env doom --data {world.data} --run {tmp_path}/two --workers 2 --code-size 8 --focus 0"
    sizes = "--shuffle-buffer 100 --steps 20 --save-every 5 --batch-size 16"
    rates = "--learning-rate 1e-3 --final-learning-rate 1e-4"
    finished = torchrun("pipelines/02_train_vision.py", *f"{flags} {sizes} {rates}".split())
    assert finished.returncode == 0, finished.stderr
    alone, shared = (metrics(tmp_path / run / "vision") for run in ("one", "two"))
    for name in ("loss", "held_out_loss"):
        a, b = (np.array([line[name] for line in lines]) for lines in (alone, shared))
        assert b == pytest.approx(a, rel=0.25)  # one process differs by up to 0.19 from itself under other noise


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    finished = torchrun("pipelines/02_train_vision.py", "--data", tmp_path, "--run", tmp_path / "run")
    assert finished.returncode == 1
    assert finished.stderr.count("error: ") == 1 and "run pipelines/01_collect.py --env doom first" in finished.stderr


@pytest.mark.parametrize("stage", ["01_collect", "04_train_controller"])
def test_stages_that_would_do_everything_twice_refuse(stage: str) -> None:
    several = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "one"}  # as torchrun sets them
    command = [sys.executable, f"pipelines/{stage}.py"]
    finished = subprocess.run(command, cwd=ROOT, env=os.environ | several, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1
    assert finished.stderr == (
        "error: torchrun is for stages 2 and 3; start this one with python: it uses all cores by --workers\n"
    )
