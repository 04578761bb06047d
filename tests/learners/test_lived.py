"""What a worker tells of real episodes: whether more was to come above all."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.acting.test_trying import Clock, Glass
from worldmodels.acting.actor import Actor
from worldmodels.learners.lived import Lived, LivedTask, play

ENDS = 9  # steps that an episode of this seed lasts: 4 + 9 % 5 is 8


class Miser(Clock):
    """Pays for the first three steps alone."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, float(self._step <= 3), terminated, truncated, info


def lived(monkeypatch: pytest.MonkeyPatch, max_steps: int, patience: int) -> Lived:
    monkeypatch.setattr("worldmodels.learners.lived.reused", lambda env, count: [Miser() for _ in range(count)])
    torch.manual_seed(0)
    actor = Actor(3, 2, units=8, layers=1)
    spec: Any = SimpleNamespace(
        model=lambda version: Glass(), new_actor=lambda model: actor, inputs=("x",), env=None, max_steps=max_steps
    )
    (one,) = play(LivedTask(spec, "", patience, 2, False, actor.params().numpy(), [ENDS]))
    return one


@pytest.mark.parametrize(
    ("max_steps", "patience", "length", "over"),
    [(100, 0, 8, True), (6, 0, 6, False), (100, 2, 5, True), (100, 4, 7, True), (8, 0, 8, True)],
)
def test_it_is_over_where_it_ended_or_was_given_up_and_not_where_it_was_cut_short(
    monkeypatch: pytest.MonkeyPatch, max_steps: int, patience: int, length: int, over: bool
) -> None:
    one = lived(monkeypatch, max_steps, patience)
    assert (len(one.rewards), one.over) == (length, over)
    assert one.rewards.tolist() == [1.0] * 3 + [0.0] * (length - 3)
    assert len(one.feat) == len(one.action) == -(-length // 2)
