import numpy as np
import pytest

from worldmodels.stages.regression import Reader, Truth, linear, nonlinear, r_squared

Sides = tuple[list[np.ndarray], list[np.ndarray], list[Truth], list[Truth]]


def met(rng: np.random.Generator, steps: int = 40) -> tuple[np.ndarray, Truth]:
    """An episode whose feature tells place and noisily speed, and nothing of luck."""
    feat = rng.normal(size=(steps + 1, 5)).astype(np.float32)
    truth = {
        "place": feat[:, :2] @ np.array([[1.0, 2.0], [3.0, -1.0]]) + 4,
        "speed": feat[:, 2:3] + rng.normal(size=(steps + 1, 1)),
        "luck": rng.normal(size=(steps + 1, 1)),
        "constant": np.ones((steps + 1, 1)),
    }
    return feat, {name: values.astype(np.float32) for name, values in truth.items()}


def two_sides(episodes: int) -> Sides:
    """What `r_squared` takes: features to fit and to score on, and what was true there."""
    rng = np.random.default_rng(0)
    (fit_on, fit), (score_on, score) = (zip(*(met(rng) for _ in range(episodes)), strict=True) for _ in range(2))
    return list(fit_on), list(score_on), list(fit), list(score)


def test_r_squared_is_what_a_linear_map_can_explain() -> None:
    result = r_squared(*two_sides(60), 0)
    assert set(result) == {"place", "speed", "luck"}  # a constant has no variance to explain
    assert result["place"][0] > 0.999 and result["place"][1] < 1e-3
    score, half = result["speed"]
    assert score == pytest.approx(0.5, abs=0.06) and 0.01 < half < 0.1
    assert abs(result["luck"][0]) < 0.03


def test_the_nonlinear_probe_finds_what_lies_folded_up_and_invents_nothing() -> None:
    sides = two_sides(60)
    for feat, truth in zip(sides[0] + sides[1], sides[2] + sides[3], strict=True):
        truth["product"] = feat[:, :1] * feat[:, 1:2]
    straight = r_squared(*sides, 0)
    bent = r_squared(*sides, 0, nonlinear)
    assert straight["product"][0] < 0.05 and bent["product"][0] > 0.9
    assert bent["place"][0] > 0.98 and bent["speed"][0] == pytest.approx(0.5, abs=0.08)
    assert abs(bent["luck"][0]) < 0.03
    assert r_squared(*sides, 0, nonlinear) == bent


@pytest.mark.parametrize("read", [linear, nonlinear])
def test_frames_without_a_quantity_are_left_out_of_it_alone(read: Reader) -> None:
    sides = two_sides(40)
    whole = r_squared(*sides, 0, read)
    for feat, truth in zip(sides[0] + sides[1], sides[2] + sides[3], strict=True):
        truth["here"] = np.where(feat[:, :1] > 0.5, feat[:, 3:4], np.nan)
        truth["nowhere"] = np.full_like(feat[:, :1], np.nan)
    sides[3][0]["here"][:] = np.nan  # an episode without any
    found = r_squared(*sides, 0, read)
    assert found["here"][0] > 0.9 and set(found) == {*whole, "here"}
    assert {name: found[name] for name in whole} == whole
