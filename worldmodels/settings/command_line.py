"""The command line as a configuration."""

import contextlib
import dataclasses
import io
import re
import sys
from typing import Any, TypeVar, get_args

import tyro

from worldmodels.core.errors import UserError, nearest
from worldmodels.settings.config import Stage, flag
from worldmodels.settings.envspec import usual_repeat
from worldmodels.settings.presets import preset_of

Config = TypeVar("Config")


def parse(kind: type[Config], argv: list[str] | None = None, called: str = "") -> Config:
    """The command line as a `kind`, over the preset that --env and --preset name.

    Raises:
        UserError: for an unknown flag (with the nearest known one) or a value that does not fit.
    """
    argv = sys.argv[1:] if argv is None else argv
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known = [flag(name) for name in fields]
    for word in (a.split("=")[0] for a in argv if a.startswith("--") and a != "--help"):
        if word not in known and word.replace("--no-", "--", 1) not in known:
            raise UserError(f"{word} is not a flag of this command; {nearest(word, known)}")
    model = _value(argv, "--vision", "") or _value(argv, "--memory", "")
    preset = preset_of(kind, _value(argv, "--env", "doom"), _value(argv, "--preset", "laptop"), model)
    # what decides on other defaults must be among them
    if "max_steps" in preset and (repeat := _value(argv, "--action-repeat", "")).isdigit() and int(repeat):
        preset["max_steps"] = (
            preset["max_steps"] * usual_repeat(preset["env"]) // int(repeat)
        )  # as long in the env's time
    for name in ("distractor", "vision", "memory"):
        if name in fields and (given := _value(argv, flag(name), "")) in get_args(fields[name].type):
            preset[name] = given
    defaults = {"default": kind(**preset)} if issubclass(kind, Stage) else {}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config = tyro.cli(kind, prog=called or None, args=argv, **defaults)  # type: ignore[call-overload]
    except SystemExit as stop:
        if not stop.code:
            raise
        text = " ".join(re.sub(r"[╭╮╰╯│─]+", " ", complaint.getvalue()).split())
        raise UserError(re.split(r"(?:Argument helptext|For full helptext)", text)[0].strip()) from None
    _refuse_idle(config, [a.split("=")[0] for a in argv])
    return config


def _refuse_idle(config: Any, words: list[str]) -> None:
    """Raises UserError naming the first flag that was given and would do nothing."""
    for name, (other, value) in getattr(config, "ONLY", {}).items():
        given = [word for word in (flag(name), flag(name).replace("--", "--no-", 1)) if word in words]
        if given and getattr(config, other) != value:
            needed = flag(other) if value is True else f"{flag(other)} {value}"
            raise UserError(f"{given[0]} does nothing without {needed}; add that, or leave it out")


def _value(argv: list[str], name: str, default: str) -> str:
    for i, word in enumerate(argv):
        if word == name and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(name + "="):
            return word.split("=", 1)[1]
    return default
