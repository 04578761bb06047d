"""--dry-run tells what a command would take, and writes nothing."""

import dataclasses
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from worldmodels.estimate import costs
from worldmodels.settings.command_line import parse
from worldmodels.settings.models import HRSSMSettings, RSSMSettings
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig, VisionConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

STAGES = {
    CollectConfig: collect, VisionConfig: train_vision, MemoryConfig: train_memory, ControllerConfig: train_controller,
}  # fmt: skip


def dry_run(config: object, capsys: pytest.CaptureFixture) -> tuple[dict[str, list[str]], str]:
    """Rows of the tables that a dry run prints, by their name, and the text."""
    capsys.readouterr()
    STAGES[type(config)](dataclasses.replace(config, dry_run=True))  # type: ignore[call-overload,arg-type]
    text = capsys.readouterr().out
    rows = (re.split(r" {2,}", line.strip()) for line in text.splitlines())
    return {row[0]: row[1:] for row in rows if len(row) > 1}, text


def files(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "LONG_ENOUGH", 0.3)


def seconds(told: str) -> float:
    """A time as the table tells it."""
    value, unit = told.split()
    return float(value) * {"h": 3600, "min": 60, "s": 1, "ms": 1e-3, "µs": 1e-6}[unit]


@pytest.mark.parametrize(
    ("stage", "flags", "part"),
    [
        (CollectConfig, "--max-steps 50", "step"),
        (VisionConfig, "--batch-size 4", "gradient step"),
        (MemoryConfig, "--batch-size 4", "gradient step"),
        (ControllerConfig, "--dream --max-steps 50", "dream step, evolving"),
        (ControllerConfig, "--max-steps 50", "real step, evolving"),
        (ControllerConfig, "--learner actor-critic --dream --max-steps 50", "update"),
        (ControllerConfig, "--learner ppo --dream --max-steps 50", "update"),
    ],
)
def test_before_anything_is_there_sizes_come_from_the_preset(
    stage: type, flags: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, text = dry_run(parse(stage, f"--env doom --preset tiny --workers 1 --dry-run {flags}".split()), capsys)
    each, total = seconds(rows[part][3]), seconds(rows["total"][0])
    assert 0 < each <= total and "memory: " in text and "disk: " in text
    assert not list(tmp_path.iterdir())


def test_over_what_is_there_it_counts_what_is_missing_and_touches_nothing(
    world: World, capsys: pytest.CaptureFixture
) -> None:
    before = files(world.run, world.data)
    more = dataclasses.replace(world.collect, episodes=12, workers=2, fresh=False)
    rows, text = dry_run(more, capsys)
    assert "\n6 episodes of doom by held, a dry run" in text  # six of the twelve are there
    assert rows["step"][1:3] == ["300", "2"]  # of 50 steps each, on two cores
    assert "\n6 episodes" in text and rows["step"][3:] and "episodes played here" in rows["step"][4]
    assert "306 frames of" in rows["disk: rollouts"][1]
    rows, _ = dry_run(dataclasses.replace(world.vision, fresh=True), capsys)
    assert rows["gradient step"][1] == "6" and rows["frame encoded"][1] == "306" and rows["frame read"][1] == "96"
    assert rows["held-out check"][1] == "3"
    rows, _ = dry_run(world.memory, capsys)
    assert "codes of" in rows["memory: --shuffle-buffer"][1] and rows["gradient step"][1] == "6"
    rows, _ = dry_run(world.controller(tau=(1.0, 1.15)), capsys)
    assert rows["dream step, evolving"][1] == f"{2 * 3 * 4 * 2 * 30:,}"
    assert rows["dream step, tests"][1] == f"{2 * (2 + 1) * 4 * 30:,}"
    assert rows["dream step, evolving"][2] == "1"  # few enough for one core
    many = world.controller(tau=(1.0,), pop_size=64, episodes=16, test_episodes=600, max_steps=5, workers=3)
    larger, _ = dry_run(many, capsys)
    assert larger["dream step, evolving"][2] == "2"  # four blocks on three cores: two rounds
    assert larger["dream step, tests"][2] == "3"
    short = dataclasses.replace(many, horizon=2, generations=3, test_every=2)
    counted, text = dry_run(short, capsys)
    assert counted["dream step, evolving"][1] == f"{3 * 64 * 16 * 2:,}"
    assert counted["dream step, tests"][1] == f"{600 * (2 * 2 + 5):,}"  # the last one of whole dreams
    assert "while evolving --horizon 2" in text
    assert rows["real step, final scores"][1] == f"{(2 + 3) * 2 * 30:,}"  # two controllers, three baselines
    assert files(world.run, world.data) == before


def test_robust_models_are_measured_too(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "groups": 4, "classes": 4, "units": 16, "sequence_length": 8}
    hrssm, rssm = HRSSMSettings(code_size=8, depth=4, **sizes), RSSMSettings(**sizes)
    v = dataclasses.replace(world.vision, run=tmp_path, vision="hrssm", model=hrssm, batch_size=2)
    assert "16 frames a step" in dry_run(v, capsys)[0]["gradient step"][-1]
    m = dataclasses.replace(world.memory, memory="rssm", model=rssm, batch_size=2)
    assert seconds(dry_run(m, capsys)[0]["total"][0]) > 0


def test_the_estimate_of_stage_2_is_not_far_from_the_truth(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(costs, "LONG_ENOUGH", 1.0)
    config = dataclasses.replace(world.vision, run=tmp_path, steps=200, save_every=100)
    rows, _ = dry_run(config, capsys)
    began = time.monotonic()
    train_vision(config)
    took, guessed = time.monotonic() - began, seconds(rows["total"][0])
    assert guessed / 3 < took < 3 * guessed
