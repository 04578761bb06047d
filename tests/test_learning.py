"""What a newcomer sees: the demo learns. Ten minutes; run with `make slow`."""

import math
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_dreams_as_long_as_reality_lasts_and_beats_random_beyond_doubt() -> None:
    for folder in ("runs/demo", "data/demo"):
        subprocess.run(["rm", "-rf", folder], cwd=ROOT, check=True)
    out = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    dreamt, real = (
        float(re.search(rf"steps, {world} +([\d.]+)", out)[1])  # type: ignore[index]
        for world in ("dreamt at tau 1, --sample-end", "varied policy, real")
    )
    assert 0.5 < dreamt / real < 2
    table = out[out.index("our controller in the dream") - 2000 :]
    scores = {
        name: [float(x) for x in re.findall(r"[\d.]+", re.search(rf"{name} +(.+)", table)[1])]  # type: ignore[index]
        for name in ("random", "in the real doom")
    }
    (random_mean, _, random_ci, _), (our_mean, _, our_ci, n) = scores.values()
    assert n == 100 and our_mean - random_mean > math.hypot(our_ci, random_ci)  # 95 % of the difference
