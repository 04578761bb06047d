"""How much is left of all stages."""

import time

import pytest

from worldmodels.core.report import lasting
from worldmodels.settings.run_all import parse_all
from worldmodels.show.overview import AROUND, Overview

PLAN = parse_all(["--dream", "--tau", "1", "2"])  # collect, vision, memory, controller, evaluate twice
EXPECTED: list[float | None] = [100.0, 50.0, 30.0, 400.0, 20.0, 20.0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def at(done: float, total: float, name: str = "bar", begun: float = 0) -> dict[str, object]:
    return {"bar": name, "done": done, "begun": begun, "total": total, "unit": "step", "about": None}


def test_what_is_left_is_what_was_expected_until_bars_tell_better(clock: list[float]) -> None:
    shown = Overview(PLAN, EXPECTED, {0: 100.0})
    shown.begin(1)
    ahead = 30 + 400 + 20 + 20 + 4 * AROUND
    assert shown.left(0.0) == pytest.approx(50 + AROUND + ahead)
    shown.hear(at(10, 100, begun=10))
    clock[0] = 20.0
    shown.hear(at(30, 100, begun=10))  # a step a second
    assert shown.left(20.0) == pytest.approx(70 + ahead)


def test_how_much_sooner_episodes_end_is_learnt_from_stage_1(clock: list[float]) -> None:
    shown = Overview(PLAN, EXPECTED, {})
    shown.begin(0)
    shown.hear(at(0, 10))
    clock[0] = 5.0
    shown.hear(at(5, 10))  # 10 seconds instead of 100
    assert shown.left(5.0) == pytest.approx(5 + 50 + 30 + (400 + 20 + 20) / 10 + 5 * AROUND)


def test_a_sweep_has_a_bar_for_each_temperature(clock: list[float]) -> None:
    shown = Overview(PLAN, EXPECTED, {0: 100.0, 1: 50.0, 2: 30.0})
    shown.begin(3)
    shown.hear(at(0, 10, "evolve tau1"))
    clock[0] = 5.0
    shown.hear(at(5, 10, "evolve tau1"))
    assert shown.left(5.0) == pytest.approx(5 + 10 + 20 + 20 + 2 * AROUND)


def test_what_is_not_known_is_not_told(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    with Overview(PLAN, [None] * 6, {}) as shown:
        shown.begin(0)
        shown.hear({"part": 3, "expected": 1.0})
        assert shown.left(0.0) is None
        for index in range(6):
            shown.end(index)
    told = capsys.readouterr()
    assert "1/6 collect · 0 s so far · what is left is not known yet" in told.err and "done: collect" in told.out


def test_times_are_told_as_people_tell_them() -> None:
    assert [lasting(s) for s in (40, 89.6, 600, 3600, 12_000)] == ["40 s", "90 s", "10 min", "1 h", "3 h 20 min"]
