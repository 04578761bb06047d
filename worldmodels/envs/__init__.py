"""`make_env`, the only door to environments.

Every environment behind it shows `obs` uint8 (64, 64, 3), takes an `action` float32 (A,) in [-1, 1], speaks
Gymnasium's API, and draws a `frame` for people with `render()`.
"""

import importlib
from typing import Any

import gymnasium

from worldmodels.errors import UserError, nearest

OWN = {"doom": "worldmodels.envs.doom:Doom", "carracing": "worldmodels.envs.carracing:CarRacing"}


def make_env(name: str, seed: int | None = None, **options: Any) -> gymnasium.Env:
    """The environment called `name`: doom, carracing, or any Gymnasium id with an image observation.

    Args:
        name: `package:Id-v0` imports `package` first, as Gymnasium does.
        seed: resets the environment with it, so that later unseeded resets follow from it. None: reset it yourself.
        options: passed on to the environment.

    Raises:
        UserError: if there is no such environment, or its spaces do not fit.
    """
    if name in OWN:
        module, cls = OWN[name].split(":")
        env = getattr(importlib.import_module(module), cls)(**options)  # late: only the adapter asked for
    else:
        from worldmodels.envs.images import ImageEnv

        env = ImageEnv(_gymnasium(name, options))
    if seed is not None:
        env.reset(seed=seed)
    return env


def _gymnasium(name: str, options: dict[str, Any]) -> gymnasium.Env:
    known = [*OWN, *(key for key, spec in gymnasium.registry.items() if spec.entry_point)]
    try:
        return gymnasium.make(name, render_mode="rgb_array", disable_env_checker=True, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--env {name} could not be made: {error} (its constructor must accept render_mode)") from error
    except ModuleNotFoundError as error:
        raise UserError(f"--env {name}: {error}; install it into this environment") from error
    except gymnasium.error.Error as error:
        if name.split(":")[-1] in gymnasium.registry:
            raise UserError(f"--env {name}: {error}") from error
        near = nearest(name, known).split("known:")[0].strip() or "try"
        raise UserError(f"--env {name} is unknown; {near} doom, carracing, or any Gymnasium id") from error
