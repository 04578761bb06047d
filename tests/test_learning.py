"""What a newcomer sees: the demo learns to dodge. A quarter of an hour; run with `make slow`."""

import json
import math
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_demo_dreams_as_long_as_reality_lasts_and_beats_the_sweep_beyond_doubt() -> None:
    for folder in ("runs/demo", "data/demo"):
        subprocess.run(["rm", "-rf", folder], cwd=ROOT, check=True)
    subprocess.run(["make", "demo"], cwd=ROOT, check=True)
    (record,) = (ROOT / "runs/demo/controller").glob("*/evaluate.json")
    rows = json.loads(record.read_text())["tables"][0]["rows"]
    scores = {name: score for name, score, *_ in rows}
    ours = scores["our controller in the real doom"]
    sweep = scores["left-right sweep"]
    assert ours["n"] == sweep["n"] == 100
    assert ours["mean"] - sweep["mean"] > math.hypot(ours["ci"], sweep["ci"])  # 95 % of the difference
    for name in ("random", "left-right sweep"):
        assert 0.5 < scores[f"{name}, in the dream"]["mean"] / scores[name]["mean"] < 2
