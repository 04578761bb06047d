"""What flags are when none is given, by stage, environment, --preset, and V or M.

What an environment asks for stands in its record (settings/environments/), what a V or M asks for beside its settings
(settings/models/). An environment may set what only some models have; the others pass it over.
"""

import dataclasses
from typing import Any

from worldmodels.core.errors import UserError, nearest
from worldmodels.settings.environments import OTHER, PRESET_NAMES, STAGES, record_of
from worldmodels.settings.environments.record import Environment
from worldmodels.settings.models import OURS, ModelSettings


def check_preset(preset: str) -> None:
    """Raises UserError if there is no such preset."""
    if preset not in PRESET_NAMES:
        raise UserError(f"--preset {preset} is unknown; {nearest(preset, list(PRESET_NAMES))}")


def preset_of(kind: type, env: str, preset: str, model: type[ModelSettings] | None = None) -> dict[str, Any]:
    """What `preset` sets for `env` in the stage `kind`, and over that for the V or M that it trains.

    Raises:
        UserError: if there is no such preset, or the record of `env` sets what this stage does not have.
    """
    check_preset(preset)
    record = record_of(env)
    stage = kind.__name__.removesuffix("Config").lower()
    own = record.settings(stage, preset)
    _refuse_unknown(record, stage, own, _known(kind, model))
    chosen = {"env": env, "preset": preset} | OTHER.settings(stage, preset)
    if record.action_repeat and stage in STAGES:
        chosen["action_repeat"] = record.action_repeat
    chosen |= own
    if model:
        chosen |= {**model.PRESETS.get("all", {}), **model.PRESETS.get(preset, {})}
    return chosen


def usual_steps(kind: type, env: str, preset: str, repeat: int, name: str = "max_steps") -> int:
    """--max-steps, or another number of steps, of the stage `kind`, for as long in the environment's time where each
    action is applied so often; 0 if that is usual, which stands for no such bound."""
    usually = preset_of(kind, env, preset)
    steps: int = usually.get(name, 0)
    return steps and max(1, steps * usually.get("action_repeat", 1) // repeat)


def _known(kind: type, model: type[ModelSettings] | None) -> list[str]:
    """All that an environment may set for a stage: its settings, and those of any model that it can train."""
    trained = [ours.settings for ours in OURS.values() if ours.stage == getattr(kind, "MODEL", "")]
    parts: list[Any] = [kind, *trained, *([model] if model else [])]
    return sorted({field.name for part in parts for field in dataclasses.fields(part)})


def _refuse_unknown(record: Environment, stage: str, settings: dict[str, Any], known: list[str]) -> None:
    for name in settings:
        if name not in known:
            raise UserError(f"the record of {record.name} sets {name} for {stage}; {nearest(name, known)}")
