"""Dreams that last longer, or less long, than reality are told of."""

from pathlib import Path

import numpy as np
import pytest

from worldmodels.core.errors import UserError
from worldmodels.core.report import Summary
from worldmodels.dreams import trust
from worldmodels.dreams.calibration import AGES, ages, deaths


def lived(mean: float) -> Summary:
    return Summary(mean, 10.0, 1.0, 64)


def test_deaths_are_counted_by_age_as_by_hand() -> None:
    lengths = np.array([60, 61, 1000, 2100])
    found = deaths(lengths, np.array([True, True, True, False]))
    assert found.deaths.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1]  # the last was cut, not ended
    assert found.steps.tolist() == [240, 121, 120, 120, 120, 200, 400, 600, 1300]
    assert found.steps.sum() == lengths.sum()
    assert found.rates[0] == pytest.approx(1000 / 240)
    assert found.errors[2] == pytest.approx(1000 / 120)  # where nobody died, as if one had
    assert len(ages()) == len(AGES)


def test_an_age_that_nobody_reached_has_no_rate() -> None:
    found = deaths(np.array([10, 20]), np.array([True, True]))
    assert np.isnan(found.rates[1:]).all()
    assert found.rates[0] == pytest.approx(1000 * 2 / 30)


def test_only_lives_that_differ_much_are_doubted(tmp_path: Path) -> None:
    lives = {
        "sweep": trust.Lives(lived(600), sampled=lived(900), decided=lived(700)),
        "still": trust.Lives(lived(160), sampled=lived(161), decided=lived(100)),
    }
    trust.write(tmp_path, 1.15, lives)
    assert trust.read(tmp_path) == (1.15, lives)
    (kind,) = trust.doubts(tmp_path, sample_end=True)
    assert "too kind: 'sweep' lives 1.50 times as long as really (900 and 600 steps)" in kind
    (harsh,) = trust.doubts(tmp_path, sample_end=False)
    assert "too harsh: 'still'" in harsh


def test_an_m_that_was_never_compared_is_not_doubted(tmp_path: Path) -> None:
    assert trust.doubts(tmp_path, sample_end=True) == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"tau": 1.0, "lives": {"still": {"real": 3}}}', '{"tau": "hot", "lives": {}}']
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / trust.FILE).write_text(content)
    with pytest.raises(UserError, match=trust.FILE):
        trust.doubts(tmp_path, sample_end=True)
