"""The environments of a process: made once, and used again by every task."""

import gymnasium

from worldmodels.envs import make_env
from worldmodels.settings.envspec import EnvSpec

_MADE: dict[EnvSpec, list[gymnasium.Env]] = {}


def pooled(spec: EnvSpec, count: int) -> list[gymnasium.Env]:
    """`count` environments of this process for `rollout`, all alike; none is made that was made before."""
    made = _MADE.setdefault(spec, [])
    while len(made) < count:
        made.append(make_env(spec, shrink=False))
    return made[:count]
