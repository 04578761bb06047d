"""What tells that a V or M knows its episodes instead of their world."""

import pytest

from worldmodels.training.by_heart import Line, learnt_by_heart


def history(training: list[float], held_out: list[float], name: str = "reward") -> list[Line]:
    """Lines at every 10 steps, every fifth of which was checked on held-out data."""
    lines: list[Line] = []
    for number, value in enumerate(training, 1):
        lines.append({"step": 10 * number, "loss": value, name: value})
        if number % 5 == 0:
            lines[-1] |= {f"held_out_{name}": held_out[number // 5 - 1], "held_out_loss": 9.0 * number}
    return lines


FALLS = [5 - 0.2 * number for number in range(20)]


def test_it_is_told_by_when_and_by_how_much() -> None:
    told = learnt_by_heart("V", history(FALLS, [5, 4, 5, 7.123]))
    assert told == (
        "V learns its episodes by heart: on others reward was least after 100 steps, 4, and is 7.12 now; "
        "collect more, or give fewer --steps"
    )
    assert "0, and is 0.5 now" in learnt_by_heart("M", history(FALLS, [0, 0, 0.5, 0.5]))
    assert "by heart" in learnt_by_heart("M", history(FALLS, [-3, -3.9, -3.5, -2.5], "nll"))  # likelihoods may be so


@pytest.mark.parametrize(
    ("training", "held_out"),
    [
        (FALLS, [5, 4, 3, 2.5]),  # it learns
        (FALLS, [5, 4, 4.1, 4.3]),  # luck
        (FALLS[::-1], [1, 2, 3, 4]),  # it knows more of all: what is inferred from a frame
        (FALLS, [0.001, 0.001, 0.002, 0.009]),  # of nothing
        (FALLS, [5, 5, 5, 4]),
    ],
)
def test_what_is_learnt_is_not_doubted(training: list[float], held_out: list[float]) -> None:
    assert learnt_by_heart("V", history(training, held_out)) == ""


def test_without_checks_nothing_is_said() -> None:
    assert learnt_by_heart("V", []) == ""
    assert learnt_by_heart("V", history(FALLS, [1, 2, 3, 4])[:4]) == ""
    older = [*history(FALLS, [4, 4, 4, 4], "kl"), *history(FALLS, [4, 3, 3, 3])]  # some lines lack what others have
    assert learnt_by_heart("V", older) == ""
