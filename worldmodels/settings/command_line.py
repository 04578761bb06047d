"""The command line as a configuration."""

import contextlib
import io
import re
import sys
from typing import Any, TypeVar, get_args

import tyro

from worldmodels.core import plugins
from worldmodels.core.errors import UserError, nearest
from worldmodels.settings.config import Stage, default_of, flag, names_of, usual
from worldmodels.settings.environments import ask_for
from worldmodels.settings.envspec import Distractor, usual_repeat
from worldmodels.settings.models import OURS, ModelSettings, named
from worldmodels.settings.presets import preset_of

Config = TypeVar("Config")
FLAT = (tyro.conf.OmitArgPrefixes,)  # --depth, not --model.depth


def parse(kind: type[Config], argv: list[str] | None = None, called: str = "") -> Config:
    """The command line as a `kind`, over the preset that --env and --preset name.

    Raises:
        UserError: for an unknown flag (with the nearest known one) or a value that does not fit.
    """
    argv = sys.argv[1:] if argv is None else argv
    plugins.use(*_values(argv, "--plugin"))  # first, for what they register has presets
    ask_for(_value(argv, "--env", ""))
    name, model = _asked_for(kind, argv)
    _refuse_unknown([a.split("=")[0] for a in argv], kind, model)
    preset = preset_of(kind, _value(argv, "--env", "doom"), _value(argv, "--preset", "laptop"))
    changes: dict[str, Any] = {}
    # what decides on other defaults must be among them
    if "max_steps" in preset and (repeat := _value(argv, "--action-repeat", "")).isdigit() and int(repeat):
        changes["max_steps"] = (
            preset["max_steps"] * usual_repeat(preset["env"]) // int(repeat)
        )  # as long in the env's time
    if issubclass(kind, Stage) and (given := _value(argv, "--distractor", "")) in get_args(Distractor):
        changes["distractor"] = given
    defaults: dict[str, Any] = {}
    if issubclass(kind, Stage):
        defaults["default"] = usual(kind, preset["env"], preset["preset"], name, **changes)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config = tyro.cli(kind, prog=called or None, args=argv, config=FLAT, **defaults)
    except SystemExit as stop:
        if not stop.code:
            raise
        text = " ".join(re.sub(r"[╭╮╰╯│─]+", " ", complaint.getvalue()).split())
        raise UserError(re.split(r"(?:Argument helptext|For full helptext)", text)[0].strip()) from None
    _refuse_idle(config, [a.split("=")[0] for a in argv])
    return config


def _asked_for(kind: type, argv: list[str]) -> tuple[str, type[ModelSettings] | None]:
    """The name of the V or M that stage `kind` is to train, and what that can be asked; "" and None if it trains none.

    Raises:
        UserError: if there is none of that name, or it asks for what the stage itself asks for.
    """
    stage = getattr(kind, "MODEL", "")
    if not stage:
        return "", None
    name = _value(argv, flag(stage), default_of(kind, stage))
    if ":" in name:  # of the user's own, who typed it: so it may be imported
        plugins.use(name.split(":")[0])
    model = named(name, stage).settings
    if both := {*names_of(kind)} & {*names_of(model)}:  # one flag for two things
        raise UserError(f"{name}: its setting {min(both)} is one that the stage has too; call it something else")
    return name, model


def _refuse_unknown(words: list[str], kind: type, model: type[ModelSettings] | None) -> None:
    """Raises UserError naming the first flag that this command, or the V or M that it trains, does not have."""
    known = [flag(name) for name in names_of(kind) if name != "model"]
    known += [flag(name) for name in names_of(model)] if model else []
    for word in (word for word in words if word.startswith("--") and word != "--help"):
        positive = word.replace("--no-", "--", 1)
        if word in known or positive in known:
            continue
        others = [
            f"--{other.stage} {name}"
            for name, other in OURS.items()
            if other.stage == getattr(kind, "MODEL", "") and {word, positive} & {*map(flag, names_of(other.settings))}
        ]
        if others:
            raise UserError(f"{word} does nothing without {' or '.join(others)}; add that, or leave it out")
        raise UserError(f"{word} is not a flag of this command; {nearest(word, known)}")


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


def _values(argv: list[str], name: str) -> list[str]:
    """All that follows a flag, up to the next one."""
    found: list[str] = []
    reading = False
    for word in argv:
        if word.startswith("-"):
            before, _, value = word.partition("=")
            reading = before == name
            found += [value] if reading and value else []
        elif reading:
            found.append(word)
    return found
