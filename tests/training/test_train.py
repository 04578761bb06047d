import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.core import checkpoint
from worldmodels.core.device import prepare_device
from worldmodels.core.errors import UserError
from worldmodels.models.vae import VAE
from worldmodels.settings.models import HRSSMSettings
from worldmodels.stages.collect import collect
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision
from worldmodels.training import train
from worldmodels.training.gradients import gradient_of_share
from worldmodels.training.run import LOCK, OURS, Run
from worldmodels.workers.local import Workers


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives while metrics of `step` are written, before its checkpoint."""
    original = Run.log

    def log(self: Run, at: int, metrics: dict) -> None:
        original(self, at, metrics)
        if at == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "log", log)


def metrics(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time"} for line in lines]


@pytest.mark.parametrize(("stage", "trainer"), [("vision", train_vision), ("memory", train_memory)])
def test_resume_equals_never_having_stopped(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, trainer: Callable
) -> None:
    config = dataclasses.replace(getattr(world, stage), run=tmp_path)
    if stage == "memory":
        (tmp_path / "vision").symlink_to(world.run / "vision")
    stop_at(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        trainer(config)
    assert metrics(tmp_path / stage)[-1]["step"] == 4  # logged, but the last checkpoint is of step 2
    monkeypatch.undo()
    trainer(config)
    assert metrics(tmp_path / stage) == metrics(world.run / stage)
    resumed, straight = (
        checkpoint.load(run / stage / "checkpoint.safetensors", f"{stage} run")["weights"]
        for run in (tmp_path, world.run)
    )
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_the_same_command_again_changes_nothing(world: World) -> None:
    before, lines = models.load_module(world.run / "vision", "vision")[0].state_dict(), metrics(world.run / "vision")
    train_vision(world.vision)
    after = models.load_module(world.run / "vision", "vision")[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert metrics(world.run / "vision") == lines


def test_a_command_that_was_refused_leaves_no_run_behind(world: World, tmp_path: Path) -> None:
    too_long = dataclasses.replace(
        world.vision, run=tmp_path, vision="hrssm", model=HRSSMSettings(sequence_length=10_000, depth=4)
    )
    with pytest.raises(UserError, match="--sequence-length 10000 is too long"):
        train_vision(too_long)
    train_vision(dataclasses.replace(world.vision, run=tmp_path))  # as its advice, or anything else, may ask
    assert metrics(tmp_path / "vision") == metrics(world.run / "vision")


def test_other_settings_for_a_run_that_was_begun_name_the_flag(world: World) -> None:
    with pytest.raises(UserError, match=r"begun with --learning-rate 0\.001, not 0\.5; .*--fresh"):
        train_vision(dataclasses.replace(world.vision, learning_rate=0.5))


def test_nan_in_a_loss_names_flag_and_folder_and_keeps_the_checkpoint(world: World, tmp_path: Path) -> None:
    config = dataclasses.replace(world.vision, run=tmp_path, learning_rate=1e30, final_learning_rate=1e30, save_every=1)
    with pytest.raises(
        UserError, match=r"the loss is (nan|inf) at step \d+ of .*vision; try --fresh with a --learning"
    ):
        train_vision(config)
    kept = Run(tmp_path / "vision", config, "vision").rewind()
    assert kept is not None and kept["step"] >= 1


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 1), (2, 1), (4, 3)])
def test_training_leaves_a_core_free(world: World, tmp_path: Path, workers: int, threads: int) -> None:
    class Counting(torch.nn.Linear):
        def loss(self, batch: dict, carry: dict, generator: object) -> tuple:
            seen.append(torch.get_num_threads())
            return self.weight.sum(), {}, {}

        def after_step(self) -> None:
            pass

    seen: list[int] = []
    config = dataclasses.replace(world.vision, run=tmp_path, save_every=1, workers=workers, steps=1)
    run = Run(tmp_path / "v", config, "vision")
    before = torch.get_num_threads()
    try:
        train.fit(Counting(2, 2), lambda skip: iter([{}]), dict, config, run, torch.device("cpu"))
    finally:
        torch.set_num_threads(before)
    assert seen == [threads]


def test_a_broken_gradient_under_a_finite_loss_reaches_no_checkpoint(world: World, tmp_path: Path) -> None:
    class Breaking(torch.nn.Linear):
        """The gradient of a square root at zero is infinite, its value is not."""

        def loss(self, batch: dict, carry: dict, generator: object) -> tuple:
            return self.weight.mul(0).abs().sum().sqrt(), {}, {}

    config = dataclasses.replace(world.vision, run=tmp_path, save_every=1)
    run, device = Run(tmp_path / "v", config, "vision"), torch.device("cpu")
    batches = lambda skip: iter([{}] * 9)  # noqa: E731
    with pytest.raises(UserError, match="the gradient is not finite at step 0"):
        train.fit(Breaking(2, 2), batches, dict, config, run, device)
    assert not run.checkpoint_path.exists()


def test_more_episodes_than_it_was_begun_on_need_fresh(world: World, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(world.data, data)
    train_vision(dataclasses.replace(world.vision, run=run, data=data))
    train_memory(memory := dataclasses.replace(world.memory, run=run, data=data))
    before = models.fingerprint(run)
    collect(dataclasses.replace(world.collect, data=data, episodes=9))
    with pytest.raises(UserError, match="vision was begun with other rollouts than now"):
        train_vision(dataclasses.replace(world.vision, run=run, data=data))
    train_memory(dataclasses.replace(memory, fresh=True))  # M alone: stage 3 encodes the new episodes itself
    assert models.fingerprint(run) != before


def test_the_learning_rate_falls_geometrically_from_first_to_last(world: World) -> None:
    config = dataclasses.replace(world.vision, learning_rate=1e-2, final_learning_rate=1e-4, steps=5)
    rates = [train._learning_rate(config, step) for step in range(5)]
    assert rates == pytest.approx([1e-2, 10**-2.5, 1e-3, 10**-3.5, 1e-4])


def test_every_stage_leaves_what_people_look_at(world: World) -> None:
    for name in ("vision/reconstructions.png", "vision/curves.png", "memory/curves.png", "memory/calibration.png"):
        assert (world.run / name).read_bytes()[:4] == b"\x89PNG"
    assert (world.run / "memory/dream_beside_reality.mp4").read_bytes()[4:8] == b"ftyp"
    assert list((world.run / "vision/tensorboard").glob("events.*"))


def test_m_begun_on_another_v_is_not_gone_on_with(world: World, tmp_path: Path) -> None:
    train_vision(dataclasses.replace(world.vision, run=tmp_path, seed=6))
    shutil.copytree(world.run / "memory", tmp_path / "memory")
    with pytest.raises(UserError, match="memory was begun with another V than now; start anew with --fresh"):
        train_memory(dataclasses.replace(world.memory, run=tmp_path))


def test_m_trained_on_another_v_is_refused(world: World, tmp_path: Path) -> None:
    train_vision(dataclasses.replace(world.vision, run=tmp_path, seed=5))
    (tmp_path / "memory").symlink_to(world.run / "memory")
    with pytest.raises(UserError, match="memory was trained on codes of V"):
        models.load(tmp_path)


def test_a_device_that_is_not_there_is_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--device gpu is unknown; did you mean cpu\?"):
        train_vision(dataclasses.replace(world.vision, run=tmp_path, device="gpu"))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: torch finds no GPU here"):
            train_vision(dataclasses.replace(world.vision, run=tmp_path, device="cuda"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cpu:x", "--device cpu:x is unknown; did you mean cpu"),
        ("cuda:x", "--device cuda:x is unknown; did you mean cuda"),
        ("cuda:2", "--device cuda:2: the last GPU here is cuda:1; give that, or one before it"),
    ],
)
def test_a_device_that_cannot_be_is_told_where_there_are_gpus_too(
    monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    made_current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", made_current.append)
    with pytest.raises(UserError, match=told):
        prepare_device(name)
    assert prepare_device("cuda:1") == torch.device("cuda", 1)
    assert prepare_device("auto") == torch.device("cuda") and prepare_device("cpu") == torch.device("cpu")
    assert made_current == [torch.device("cuda", 1)]


def test_fresh_deletes_what_a_run_leaves_and_nothing_else(world: World, tmp_path: Path) -> None:
    config = dataclasses.replace(world.vision, run=tmp_path, steps=2)
    train_vision(config)
    left = {path.name for path in (tmp_path / "vision").iterdir()} - {LOCK}
    assert left <= set(OURS)  # else --fresh would leave it
    (tmp_path / "vision/thesis.txt").write_text("years")
    Run(tmp_path / "vision", dataclasses.replace(config, fresh=True), "vision", rollouts="x")
    assert {path.name for path in (tmp_path / "vision").iterdir()} == {"thesis.txt", "config.json", LOCK}


def test_a_run_is_one_processs_at_a_time(world: World, tmp_path: Path) -> None:
    held = "import sys, fcntl; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    (tmp_path / "vision").mkdir()
    command = [sys.executable, "-c", held, str(tmp_path / "vision" / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"1\n"
        with pytest.raises(UserError, match=r"another process is at work in .*vision"):
            train_vision(dataclasses.replace(world.vision, run=tmp_path))
        other.kill()
    Run(tmp_path / "vision", world.vision, "vision", rollouts="x")


def test_ctrl_c_ends_the_step_in_hand_and_saves_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(world.vision, run=tmp_path, save_every=100)
    original, asked = VAE.loss, []

    def interrupted(self: VAE, *arguments: object) -> object:
        asked.append(1)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(VAE, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_vision(config)
    saved = checkpoint.load(tmp_path / "vision/checkpoint.safetensors", "vision run")
    assert saved["step"] == 3
    monkeypatch.undo()
    train_vision(config)
    whole = checkpoint.load(world.run / "vision/checkpoint.safetensors", "vision run")["weights"]
    gone_on = checkpoint.load(tmp_path / "vision/checkpoint.safetensors", "vision run")["weights"]
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", '{"a": 1}'), ("config.json", "[]"), ("config.json", "\0")]
)
def test_a_damaged_record_is_told_of(world: World, tmp_path: Path, name: str, content: str) -> None:
    shutil.copytree(world.run / "vision", tmp_path / "vision")
    (tmp_path / "vision" / name).write_text(content)
    with pytest.raises(UserError, match=r"config\.json is damaged .*--fresh"):
        train_vision(dataclasses.replace(world.vision, run=tmp_path))


def test_a_damaged_log_does_not_stop_a_run(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run / "vision", tmp_path / "vision")
    with (tmp_path / "vision/metrics.jsonl").open("ab") as file:
        file.write(b"[]\n\xff\xfe\n")
    train_vision(dataclasses.replace(world.vision, run=tmp_path))
    assert metrics(tmp_path / "vision") == metrics(world.run / "vision")


def test_a_link_is_not_trained_into(world: World, tmp_path: Path) -> None:
    """As a further round has it that sees by the first one's V: --fresh would empty that."""
    (tmp_path / "vision").symlink_to(world.run / "vision")
    before = sorted((world.run / "vision").iterdir())
    for fresh in (False, True):
        with pytest.raises(UserError, match="vision is a link to what was learnt elsewhere; remove the link"):
            train_vision(dataclasses.replace(world.vision, run=tmp_path, fresh=fresh))
    assert sorted((world.run / "vision").iterdir()) == before


def test_an_m_that_learns_in_shares_goes_on_as_if_never_stopped(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[int] = []
    gradient = Workers.map

    def counted(self: Workers, function: Callable, tasks: Any, done: Any = None) -> list:
        if function is gradient_of_share:
            shared.append(len(tasks))
        return gradient(self, function, tasks, done)

    monkeypatch.setattr(Workers, "map", counted)
    model = dataclasses.replace(world.memory.model, hidden_size=256, sequence_length=2, self_fed=0.5)
    config = dataclasses.replace(world.memory, model=model, batch_size=32, steps=4, save_every=2, workers=2)
    config = dataclasses.replace(config, real_episodes=0)
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vision").symlink_to(world.run / "vision")
    train_memory(dataclasses.replace(config, run=tmp_path / "straight"))
    assert shared == [2] * 4
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        with pytest.raises(KeyboardInterrupt):
            train_memory(dataclasses.replace(config, run=tmp_path / "stopped"))
    train_memory(dataclasses.replace(config, run=tmp_path / "stopped"))
    straight, stopped = (metrics(tmp_path / name / "memory") for name in ("straight", "stopped"))
    assert straight == stopped and len(straight) == 2
    assert models.load_module(tmp_path / "straight/memory", "memory")[0].hidden_size == 256
