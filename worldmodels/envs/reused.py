"""The environments of a process: made once, and used again by every task."""

from typing import Any

import gymnasium

from worldmodels.envs import make_env
from worldmodels.settings.envspec import EnvSpec

_MADE: dict[tuple[EnvSpec, bool], list[gymnasium.Env]] = {}


def reused(spec: EnvSpec, count: int, truth: bool = False) -> list[gymnasium.Env]:
    """`count` environments of this process for `rollout`, all alike; none is made that was made before.

    Args:
        spec: which.
        count: how many.
        truth: they tell their true state.
    """
    made = _MADE.setdefault((spec, truth), [])
    options: dict[str, Any] = {"truth": True} if truth else {}
    while len(made) < count:
        made.append(make_env(spec, shrink=False, **options))
    return made[:count]


def numbers_in_an_action(env: gymnasium.Env) -> int:
    """A: an action of any environment of ours is float32 (A,)."""
    shape = env.action_space.shape
    assert shape is not None and len(shape) == 1  # `make_env` lets no other pass
    return shape[0]
