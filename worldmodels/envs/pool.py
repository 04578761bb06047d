"""The environments of a process: made once, and used again by every task."""

import gymnasium

from worldmodels.envs import make_env
from worldmodels.settings.envspec import EnvSpec

_MADE: dict[tuple[EnvSpec, bool], list[gymnasium.Env]] = {}


def pooled(spec: EnvSpec, count: int, truth: bool = False) -> list[gymnasium.Env]:
    """`count` environments of this process for `rollout`, all alike; none is made that was made before.

    Args:
        spec: which.
        count: as many.
        truth: they tell their true state.
    """
    made, options = _MADE.setdefault((spec, truth), []), {"truth": True} if truth else {}
    while len(made) < count:
        made.append(make_env(spec, shrink=False, **options))
    return made[:count]
