import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_episode


@given(steps=st.integers(1, 20), action_size=st.integers(1, 4), terminated=st.booleans())
def test_length_return_and_end(steps: int, action_size: int, terminated: bool) -> None:
    episode = make_episode(np.random.default_rng(steps), steps, action_size, terminated)
    assert len(episode) == steps == len(episode.obs) - 1
    assert episode.episode_return == pytest.approx(float(np.sum(episode.reward.astype(np.float64))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": lambda e: e.obs[:-1]}, "T\\+1 observations"),
        ({"obs": lambda e: e.obs.astype(np.float32)}, "uint8"),
        ({"reward": lambda e: e.reward[:-1]}, "T rewards"),
        ({"reward": lambda e: e.reward * np.nan}, "finite"),
        ({"action": lambda e: e.action * 2 + 1.5}, r"\[-1, 1\]"),
        ({"action": lambda e: e.action.astype(np.float64)}, "float32"),
        ({"action": lambda e: e.action[:0], "obs": lambda e: e.obs[:1], "reward": lambda e: e.reward[:0]}, "one step"),
        ({"truncated": lambda e: True}, "both"),
    ],
)
def test_what_cannot_be_an_episode_is_refused(change: dict, message: str) -> None:
    episode = make_episode(np.random.default_rng(0), 5)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(episode, **{name: make(episode) for name, make in change.items()})
