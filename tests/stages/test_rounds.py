"""What a run of several rounds ends with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from worldmodels.core.errors import UserError
from worldmodels.core.report import summarise
from worldmodels.settings.run_all import Plan, parse_all
from worldmodels.settings.stages import CollectConfig
from worldmodels.show.record import Record
from worldmodels.stages.rounds import tell
from worldmodels.stages.run_all import run_all

HEADER = ("", "return, mean ± std", "95 % of the mean", "n")


def kept(path: Path, stage: str, scores: dict[str, list[float]]) -> None:
    """A stage's record, of these returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = Record(path, stage, CollectConfig())
    summaries = {name: summarise(np.array(returns)) for name, returns in scores.items()}
    record.table("C", HEADER, [(name, one, f"± {one.ci:.1f}", one.n) for name, one in summaries.items()])
    record.save()


def plan(run: Path) -> Plan:
    """Of two rounds."""
    return parse_all(["--run", str(run), "--data", str(run / "data"), "--dream", "--rounds", "2"])


def lines(capsys: pytest.CaptureFixture[str], run: Path) -> list[str]:
    capsys.readouterr()
    tell(plan(run))
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_each_round_has_a_line_and_who_plans_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [tmp_path / "run", tmp_path / "run/round2"]
    for number, run in enumerate(runs):
        ours = run / "controller/tau1.15"
        kept(ours / "controller.json", "controller", {"random": [1, 2], "evolved in dreams at τ 1.15: there": [5, 7]})
        kept(ours / "evaluate.json", "evaluate", {"our controller in the real doom": [3 + number, 5 + number]})
    told = lines(capsys, runs[0])
    assert any(line.startswith("1 6.0 ± 1.4 (2) 4.0 ± 1.4 (2)") for line in told)
    assert any(line.startswith("2 6.0 ± 1.4 (2) 5.0 ± 1.4 (2)") for line in told)
    assert (runs[0] / "rounds.png").stat().st_size > 1000
    page = (runs[0] / "report.html").read_text()
    assert "round by round" in page and "4.0 ± 1.4 (2)" in page and "--rounds 2" not in page.split("again")[-1]
    plans = {"our planner (icem) in the real doom": [8, 8], "our controller in the real doom": [1, 1]}
    kept(runs[1] / "planning/icem/evaluate.json", "evaluate", plans)
    told = lines(capsys, runs[0])
    assert any(line.startswith("2 icem 8.0 ± 0.0 (2)") for line in told)
    assert any(line.startswith("1 tau1.15 6.0") for line in told)  # one line in the plot, for all rounds


def test_what_was_not_evaluated_has_the_final_score_of_stage_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path, tmp_path / "round2"]
    final = {"evolved in dreams at τ 1: there": [5, 7], "evolved in dreams at τ 1: real": [1, 2]}
    for run in runs:
        kept(run / "controller/tau1/controller.json", "controller", final)
    kept(runs[1] / "controller/tau1/evaluate.json", "evaluate", {"our controller in the real doom": [3, 5]})
    told = lines(capsys, runs[0])
    assert [line for line in told if line[:2] in ("1 ", "2 ")] == [
        "1 6.0 ± 1.4 (2) 1.5 ± 0.7 (2)",
        "2 6.0 ± 1.4 (2) 4.0 ± 1.4 (2)",
    ]


def test_one_episode_has_no_spread_and_a_table_may_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(plan(tmp_path))  # nothing is known yet
    assert not (tmp_path / "rounds.png").exists()
    path = tmp_path / "controller/real/evaluate.json"
    kept(path, "evaluate", {"our controller in the real doom": [3]})
    (tmp_path / "round2/controller/real").mkdir(parents=True)
    tree = json.loads(path.read_text())
    tree["tables"] = [{"title": "C", "header": [], "rows": [[], ["frames"], ["our controller in the real doom"]]}]
    (tmp_path / "round2/controller/real/evaluate.json").write_text(json.dumps(tree))
    told = lines(capsys, tmp_path)
    assert any(line.startswith("1 3.0") and line.endswith("(1)") for line in told)


def test_rounds_go_on_as_they_were_begun(tmp_path: Path) -> None:
    words = ["--run", str(tmp_path / "r"), "--data", str(tmp_path / "d"), "--dream", "--rounds", "3"]
    folder = tmp_path / "r/round3/controller/tau1.15"
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").touch()
    for kept, given, told in (
        ([], [], "was begun with --no-from-best; give that, or move .*round3 away"),
        (["a"], ["--no-from-best"], "was begun without --no-from-best; leave it out, or move .*round3 away"),
    ):
        (folder / "config.json").write_text(json.dumps({"or_from": kept}))
        with pytest.raises(UserError, match=told):
            run_all(parse_all([*words, *given]))


def test_the_process_that_starts_stages_holds_no_torch() -> None:
    """For hours, beside those that need the memory."""
    asks = "import sys, worldmodels.stages.run_all; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asks], check=False).returncode == 0
