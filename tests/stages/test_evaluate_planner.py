"""`worldmodels evaluate --plan`, as users type it, in the real game."""

import json
from pathlib import Path

import pytest

from tests.conftest import World
from tests.stages.test_train_controller import link
from worldmodels import models
from worldmodels.commands import COMMANDS
from worldmodels.core.errors import UserError
from worldmodels.core.report import Summary
from worldmodels.show import record
from worldmodels.show.pages import sections
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.train_controller import train_controller

SMALL = "--plan-candidates 8 --plan-horizon 4"


def typed(line: str) -> dict[str, Summary]:
    config = COMMANDS["evaluate"].read(line.split())
    return evaluate(config)


@pytest.mark.parametrize("pair", [("vae", "mdnrnn"), ("hrssm", "rssm")])
def test_planning_is_scored_beside_the_trivial_policies_with_its_time(
    pairs: dict[tuple[str, str], World], pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = link(pairs[pair], tmp_path)
    scores = typed(f"--run {run} --plan icem {SMALL} --episodes 2 --workers 0")
    said = capsys.readouterr().out
    assert list(scores) == ["stay still", "random", "left-right sweep", "our planner (icem) in the real doom"]
    assert scores["stay still"].mean != scores["our planner (icem) in the real doom"].mean
    assert all(score.n == 2 for score in scores.values()) and "ms a decision" in said
    kept = record.read(run / "planning/icem/evaluate.json")
    row = kept["tables"][0]["rows"][-1]
    assert kept["tables"][0]["header"][-1] == "ms a decision" and 0 < row[-1]["value"] < 1000
    assert "--plan icem" in kept["command"] and json.loads(json.dumps(kept["settings"]))["plan_horizon"] == 4
    assert b"ftyp" in (run / "planning/icem/reality.mp4").read_bytes()[:12]
    assert b"PNG" in (run / "planning/icem/scores.png").read_bytes()[:8]
    assert sections(run)[-1].anchor == "evaluate-icem"
    assert "our planner (icem) in the real doom" in (run / "report.html").read_text()


def test_a_controller_stands_beside(world: World, tmp_path: Path) -> None:
    run = link(world, tmp_path)
    train_controller(world.controller(run=run, generations=1, max_steps=20))
    for named in (run, run / "controller/tau1.15"):
        scores = typed(f"--run {named} --plan mppi {SMALL} --episodes 2 --no-video --no-baselines --workers 0")
        assert list(scores) == ["our controller in the real doom", "our planner (mppi) in the real doom"]
        assert all(score.mean == 20 for score in scores.values())  # as long as the controller's may be


def test_what_cannot_be_planned_in_is_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/vision/model\.safetensors does not exist; run pipelines/02"):
        typed(f"--run {tmp_path}/nowhere --plan cem")
    run = tmp_path / "unpaid"
    run.mkdir()
    (run / "vision").symlink_to(world.run / "vision")
    memory, extra = models.load_module(world.run / "memory", "memory")
    memory.settings = type(memory.settings)(**{**vars(memory.settings), "reward": "none"})
    about = {name: extra[name] for name in ("env", "vision_fingerprint", "starts")}
    models.save_module(memory, run / "memory", "memory", **about)
    with pytest.raises(UserError, match=r"--plan cem: dreams of .*unpaid/memory pay nothing"):
        typed(f"--run {run} --plan cem")
    assert not (run / "planning").exists()
    with pytest.raises(UserError, match="--dream scores a controller in dreams, and --plan acts"):
        typed(f"--run {run} --plan cem --dream")
