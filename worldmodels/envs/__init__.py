"""`make_env`, the only door to environments.

Every environment behind it shows `obs` uint8 (64, 64, 3), unless asked not to shrink it, takes an `action`
float32 (A,) in [-1, 1], speaks Gymnasium's API, and draws a `frame` for people with `render()`.
"""

import functools
import importlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodels.core.errors import UserError, nearest
from worldmodels.envs.checked import Checked
from worldmodels.envs.dcs import Distraction
from worldmodels.envs.distract import background
from worldmodels.envs.foreign import Foreign
from worldmodels.envs.images import ImageEnv, Shrunk
from worldmodels.settings.environments import Environment, ask_for, record_of, records
from worldmodels.settings.envspec import EnvSpec, usual_repeat

NEEDED = "needed: uint8 (H, W, 3), and float32 (A,) in [-1, 1]"


def make_env(env: str | EnvSpec, shrink: bool = True, **options: Any) -> gymnasium.Env:
    """The environment called `env`: doom, carracing, dmc:DOMAIN-TASK, maniskill:TASK, or any Gymnasium id of images.

    Args:
        env: its name (`package:Id-v0` imports `package` first, as Gymnasium does), or an EnvSpec for action
            repeats and moving backgrounds. An EnvSpec imports nothing, for it may come out of a file.
        shrink: False leaves `obs` as large as the environment draws it, uint8 (H, W, 3), for `rollout`,
            which makes many small at a time.
        options: passed on to the environment.

    Raises:
        UserError: if there is no such environment, its spaces do not fit, it cannot do what the spec asks
            for, or it is of a module that no person typed.
    """
    if isinstance(env, str):
        ask_for(env)
        env = EnvSpec(env, usual_repeat(env))
    made = Checked(env.name, functools.partial(_made, env, options))
    return Shrunk(made) if shrink else made


def check_playable(spec: EnvSpec, otherwise: str) -> None:
    """Raises UserError if the environment cannot be made, which ends with what there is to do `otherwise`."""
    try:
        make_env(spec).close()
    except UserError as error:
        raise UserError(f"{error}{otherwise and '; '}{otherwise}") from error


def _made(spec: EnvSpec, options: dict[str, Any]) -> gymnasium.Env:
    record = record_of(spec.name)
    given = options | _asked(spec, record)
    if not record.make:
        return ImageEnv(Foreign(functools.partial(_gymnasium, spec.name, given)))
    make = _found(record.make) if isinstance(record.make, str) else record.make
    rest = [spec.name.removeprefix(record.name)] if record.is_family else []
    made: gymnasium.Env = make(*rest, **given)
    if not _fits(made):
        both = f"shows {made.observation_space} and takes {made.action_space}"
        raise UserError(
            f"--env {spec.name}: what its record makes {both}; {NEEDED}",
        )
    return made


def _asked(spec: EnvSpec, record: Environment) -> dict[str, Any]:
    """What the environment is given so that it does what the spec asks for."""
    given: dict[str, Any] = {}
    if record.action_repeat:
        given["action_repeat"] = spec.action_repeat
    elif spec.action_repeat > 1:
        able = [other.title for other in records() if other.action_repeat]
        raise UserError(
            f"--action-repeat {spec.action_repeat} is for {', '.join(able)}; --env {spec.name} takes 1",
        )
    if spec.distractor == "dcs" and not record.dcs:
        able = [other.title for other in records() if other.dcs]
        raise UserError(f"--distractor dcs is for {', '.join(able)}, and not for --env {spec.name}")
    if spec.distractor not in ("none", "dcs") and not record.distractors:
        able = [other.title for other in records() if other.distractors]
        raise UserError(
            f"--distractor {spec.distractor}: --env {spec.name} cannot tell background from foreground; "
            f"these can: {', '.join(able)}"
        )
    if spec.authors_pixels:
        if not record.published:
            raise UserError(f"--authors-pixels: the authors of World Models had no --env {spec.name}; leave it out")
        given["authors_pixels"] = True
    if spec.distractor == "dcs":
        given["distraction"] = Distraction(spec)
    elif behind := background(spec):
        given["background"] = behind
    return given


def _found(place: str) -> Any:
    """What a record calls module:name."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _fits(env: gymnasium.Env) -> bool:
    shown = env.observation_space
    taken = env.action_space
    if not (isinstance(shown, spaces.Box) and isinstance(taken, spaces.Box)):
        return False
    is_picture = shown.dtype == np.uint8 and len(shown.shape) == 3 and shown.shape[2] == 3
    return is_picture and len(taken.shape) == 1 and bool((taken.low == -1).all() and (taken.high == 1).all())


def _gymnasium(name: str, options: dict[str, Any]) -> gymnasium.Env:
    ours = [f"{record.name}…" if record.is_family else record.name for record in records()]
    known = [*ours, *(key for key, spec in gymnasium.registry.items() if spec.entry_point)]
    takes = ", ".join(["render_mode", *options])
    try:
        return gymnasium.make(name, render_mode="rgb_array", disable_env_checker=True, **options)
    except (TypeError, ValueError) as error:
        needed = f"its constructor must accept {takes}"
        raise UserError(f"--env {name} could not be made: {error} ({needed})") from error
    except ModuleNotFoundError as error:
        raise UserError(f"--env {name}: {error}; install it into this environment") from error
    except gymnasium.error.Error as error:
        if name.split(":")[-1] in gymnasium.registry:
            raise UserError(f"--env {name}: {error}") from error
        near = nearest(name, known).split("known:")[0].strip() or "try"
        raise UserError(
            f"--env {name} is unknown; {near} {', '.join(ours)}, or any Gymnasium id; "
            "if a module of your own registers it, add --plugin MODULE"
        ) from error
