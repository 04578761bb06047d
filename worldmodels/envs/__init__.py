"""`make_env`, the only door to environments.

Every environment behind it shows `obs` uint8 (64, 64, 3), unless asked not to shrink it, takes an `action` float32 (A,)
in [-1, 1], speaks Gymnasium's API, and draws a `frame` for people with `render()`.
"""

import functools
import importlib
from typing import Any

import gymnasium

from worldmodels.core.errors import UserError, nearest
from worldmodels.envs.checked import Checked
from worldmodels.envs.distract import background
from worldmodels.envs.foreign import Foreign
from worldmodels.envs.images import ImageEnv, Shrunk
from worldmodels.settings.envspec import CONTROL, EnvSpec, usual_repeat

OWN = {"doom": "worldmodels.envs.doom:Doom", "carracing": "worldmodels.envs.carracing:CarRacing"}


def make_env(env: str | EnvSpec, shrink: bool = True, **options: Any) -> gymnasium.Env:
    """The environment called `env`: doom, carracing, dmc:<domain>-<task>, or any Gymnasium id that shows images.

    Args:
        env: its name (`package:Id-v0` imports `package` first, as Gymnasium does), or an EnvSpec for action repeats and
            moving backgrounds.
        shrink: False leaves `obs` as large as the environment draws it, uint8 (H, W, 3), for `rollout`, which makes
            many small at a time.
        options: passed on to the environment.

    Raises:
        UserError: if there is no such environment, its spaces do not fit, or it cannot do what the spec asks for.
    """
    spec = EnvSpec(env, usual_repeat(env)) if isinstance(env, str) else env
    made = Checked(spec.name, functools.partial(_made, spec, options))
    return Shrunk(made) if shrink else made


def _made(spec: EnvSpec, options: dict[str, Any]) -> gymnasium.Env:
    if spec.name.startswith(CONTROL):
        from worldmodels.envs.dmc import ControlSuite  # late: only the adapter asked for

        return ControlSuite(spec.name.removeprefix(CONTROL), spec.action_repeat, background(spec), **options)
    if spec.action_repeat > 1:
        raise UserError(f"--action-repeat {spec.action_repeat} is for dmc environments; --env {spec.name} takes 1")
    if spec.name in OWN:
        module, cls = OWN[spec.name].split(":")
        return getattr(importlib.import_module(module), cls)(background=background(spec), **options)
    if spec.distractor != "none":
        raise UserError(
            f"--distractor {spec.distractor}: --env {spec.name} cannot tell background from foreground; "
            "dmc:<domain>-<task>, carracing and doom can"
        )
    return ImageEnv(Foreign(functools.partial(_gymnasium, spec.name, options)))


def _gymnasium(name: str, options: dict[str, Any]) -> gymnasium.Env:
    known = [*OWN, "dmc:walker-walk", *(key for key, spec in gymnasium.registry.items() if spec.entry_point)]
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
        raise UserError(
            f"--env {name} is unknown; {near} doom, carracing, dmc:<domain>-<task>, or any Gymnasium id"
        ) from error
