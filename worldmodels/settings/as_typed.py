"""Settings as a command line that asks for them: how to do the same again."""

import dataclasses
from pathlib import Path
from typing import Any

from worldmodels.settings.command_line import parse
from worldmodels.settings.flags import about_all, flag, names_of, parts_of
from worldmodels.settings.shared import Stage

BEGINNINGS = ("fresh", "dry_run")
"""How a command begins; they change nothing that it ends with."""
ALWAYS = ("env", "preset", "run", "data")
DCS = ("dcs_intensity", "dcs_parts", "dcs_static")
FIRST = ("action_repeat", "distractor", "distractor_colour", *DCS, "distractor_videos", "plugin")
"""What other defaults depend on, and what it takes to be asked for at all."""


def as_typed(config: Any) -> list[str]:
    """The flags that ask for `config`, where it is not what it would be without; --workers always, for what V
    and M learn depends on it, and the folders.

    Args:
        config: of a command.
    """
    kind = type(config)
    if not issubclass(kind, Stage):
        base = {field.name: field.default for field in dataclasses.fields(kind)}
        return [word for name in names_of(kind) for word in _differing(name, getattr(config, name), base.get(name))]
    model = kind.MODEL
    leading = [*ALWAYS, *(name for name in (*FIRST, model) if name and _is_given(config, name))]
    words = [word for name in leading for word in _words(name, getattr(config, name))]
    if kind.__name__ == "ControllerConfig" and config.dream:
        words += ["--dream"]
    usually = {name: value for part in parts_of(parse(kind, words)) for name, value in _fields(part).items()}
    asked = {name: value for part in parts_of(config) for name, value in _fields(part).items()}
    rest = [name for name in asked if name not in (*leading, *BEGINNINGS, "dream", "model")]
    return [*words, *(word for name in rest for word in _differing(name, asked[name], usually.get(name)))]


def _is_given(config: Any, name: str) -> bool:
    """Whether a setting is another than where nothing is said, so that it has to be typed."""
    default = next(field.default for field in dataclasses.fields(config) if field.name == name)
    only = about_all(config)[name].only
    return getattr(config, name) != default and (only is None or only.holds(config))


def _fields(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in names_of(type(part))}


def _differing(name: str, value: Any, usual: Any) -> list[str]:
    """What has to be typed for a setting to have this value; nothing, if it has it anyway."""
    return _words(name, value) if name == "workers" or value != usual else []


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag(name) if value else f"--no-{flag(name)[2:]}"]
    if value is None or value == Path() or value == ():
        return []
    values = value if isinstance(value, tuple) else (value,)
    return [flag(name), *map(str, values)]
