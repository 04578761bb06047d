"""The command line as a configuration."""

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import tyro

from worldmodels.core import plugins
from worldmodels.core.errors import UserError, nearest, shortened
from worldmodels.settings.environments import ask_for
from worldmodels.settings.envspec import PARTS, STRENGTHS, Distractor, EnvSpec, usual_repeat
from worldmodels.settings.flags import OF_STAGE_4, about_all, default_of, flag, names_of, parts_of
from worldmodels.settings.helptext import HELP
from worldmodels.settings.models import OURS, ModelSettings, named
from worldmodels.settings.presets import usual_steps
from worldmodels.settings.shared import MOST_REPEATS, Stage, usual

Config = TypeVar("Config")
Typed = Mapping[str, list[str]]
"""What was typed: each flag, and what follows it."""
FLAT = (tyro.conf.OmitArgPrefixes,)  # --depth, not --model.depth
LONGEST = 1000  # characters of what is typed after a flag


def parse(kind: type[Config], argv: list[str] | None = None, called: str = "") -> Config:
    """The command line as a `kind`, over the preset that --env and --preset name.

    Raises:
        UserError: for an unknown flag (with the nearest known one), a value that does not fit, or a flag that would do
            nothing.
    """
    argv = spelt_out(_placed(sys.argv[1:] if argv is None else argv, kind), kind)
    typed = typed_flags(argv)
    for module in typed.get("--plugin", []):  # first, for what they register has presets
        _use(module, f"--plugin {module}")
    ask_for(value_of(typed, "--env", ""))
    name, model = model_asked_for(kind, typed)
    _refuse_unknown(typed, kind, model)
    _refuse_misfits(typed, kind, model)
    _refuse_scattered(argv, kind, model)
    config = _by_tyro(kind, argv, called, _defaults(kind, typed, name))
    _refuse_idle(config, typed)
    _tell_of_former_folders(config, typed)
    return config


def typed_flags(argv: list[str]) -> Typed:
    """What was typed, flag by flag; of one that is given twice, the last counts.

    Raises:
        UserError: for what stands before any flag.
    """
    typed: dict[str, list[str]] = {}
    for word in argv:
        if word == "-h":
            word = "--help"
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            typed = {other: values for other, values in typed.items() if positive(other) != positive(name)}
            typed[name] = [value] if equals else []
        elif not typed:
            raise UserError(f"{shortened(word)} is no flag: flags begin with --, and nothing comes before them")
        else:
            typed[list(typed)[-1]].append(word)
    for name, values in typed.items():
        if too_long := [value for value in values if len(value) > LONGEST]:
            raise UserError(
                f"{shortened(name)} {shortened(too_long[0], 40)} is too long; give at most {LONGEST:,} characters"
            )
    return typed


def _use(module: str, typed: str) -> None:
    """Imports a module that was typed. Raises UserError naming the flag, if it cannot be."""
    try:
        plugins.use(module)
    except UserError as error:
        raise UserError(f"{typed}: {error}") from error


def positive(word: str) -> str:
    return word.replace("--no-", "--", 1)


def value_of(typed: Typed, name: str, default: str) -> str:
    return next(iter(typed.get(name, [])), default)


def _placed(argv: list[str], kind: type) -> list[str]:
    """The same with a flag before each of the first words that the command takes by their places; a last place that
    takes several values takes all that are left.

    Raises:
        UserError: if there is one word too many, or what it stands for is given by its flag, too.
    """
    places: tuple[str, ...] = getattr(kind, "PLACES", ())
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    if not places or not words:
        return argv
    if twice := [(flag(name), word) for name, word in zip(places, words, strict=False) if flag(name) in argv]:
        raise UserError(f"{twice[0][0]} is given twice, for {shortened(twice[0][1])} stands for it")
    several = get_origin(types_of(kind, None)[flag(places[-1])]) is tuple
    if len(words) > len(places) and not several:
        raise UserError(f"{shortened(words[len(places)])} is one too many: {len(places)} may stand here without a flag")
    before = [part for name, word in zip(places, words, strict=False) for part in (flag(name), word)]
    return [*before, *words[len(places) :], *argv[len(words) :]]


def spelt_out(argv: list[str], kind: type) -> list[str]:
    """The same, but where a folder is asked for, `.` is the folder that it is: an empty path stands for the default."""
    folders = {flag(name) for name in names_of(kind) if default_of(kind, name) == Path()}
    here = str(Path.cwd())
    words = list[str]()
    for before, word in zip(["", *argv], argv, strict=False):
        name, _, value = word.partition("=")
        if before in folders and word and Path(word) == Path():
            words.append(here)
        elif name in folders and value and Path(value) == Path():
            words.append(f"{name}={here}")
        else:
            words.append(word)
    return words


def model_asked_for(kind: type, typed: Typed) -> tuple[str, type[ModelSettings] | None]:
    """The name of the V or M that stage `kind` is to train, and what that can be asked; "" and None if it trains none.

    Raises:
        UserError: if there is none of that name, or it asks for what the stage itself asks for.
    """
    stage = getattr(kind, "MODEL", "")
    if not stage:
        return "", None
    name = value_of(typed, flag(stage), default_of(kind, stage))
    if ":" in name:  # of the user's own, who typed it: so it may be imported
        _use(name.split(":")[0], f"{flag(stage)} {name}")
    model = named(name, stage).settings
    if both := {*names_of(kind)} & {*names_of(model)}:  # one flag for two things
        raise UserError(f"{name}: its setting {min(both)} is one that the stage has too; call it something else")
    return name, model


def types_of(kind: type, model: type[ModelSettings] | None) -> dict[str, Any]:
    """The type of each flag of a command, and of the V or M that it trains."""
    parts = [kind, model] if model else [kind]
    return {flag(name): hint for part in parts for name, hint in _hints(part).items() if name != "model"}


def _hints(part: type) -> dict[str, Any]:
    hints = get_type_hints(part)
    return {name: hints[name] for name in names_of(part)}


def _refuse_unknown(typed: Typed, kind: type, model: type[ModelSettings] | None) -> None:
    """Raises UserError naming the first flag that this command, or the V or M that it trains, does not have."""
    types = types_of(kind, model)
    for word in typed:
        if word in types or word == "--help" or types.get(positive(word)) is bool:
            continue
        others = [
            f"--{other.stage} {name}"
            for name, other in OURS.items()
            if other.stage == getattr(kind, "MODEL", "")
            and {word, positive(word)} & {*map(flag, names_of(other.settings))}
        ]
        if others:
            raise UserError(f"{word} does nothing without {' or '.join(others)}; add that, or leave it out")
        raise UserError(f"{shortened(word)} is not a flag of this command; {nearest(word, list(types))}")


def _refuse_misfits(typed: Typed, kind: type, model: type[ModelSettings] | None) -> None:
    """Raises UserError naming the first flag that has fewer or more values than it takes, or none that can be one."""
    types = types_of(kind, model)
    for word, values in typed.items():
        said = shortened(" ".join(values))
        if word == "--help" or types.get(word, bool) is bool:
            if values:
                raise UserError(f"{word} takes no value; leave out {said}")
            continue
        if not values or "" in values:
            raise UserError(f"{word} is given no value; add one, or leave it out")
        if len(values) > 1 and get_origin(types[word]) is not tuple:
            raise UserError(f"{word} takes one value, and not {said}")


def _refuse_scattered(argv: list[str], kind: type, model: type[ModelSettings] | None) -> None:
    """Raises UserError naming the first flag of several values that is given twice: only the last would count."""
    words = [word.partition("=")[0] for word in argv]
    for word, what in types_of(kind, model).items():
        if get_origin(what) is tuple and words.count(word) > 1:
            raise UserError(f"{word} is given twice; give all its values after one {word}")


def _defaults(kind: type, typed: Typed, name: str) -> dict[str, Any]:
    """What tyro is to take for what is not typed."""
    if not issubclass(kind, Stage):
        return {}
    env = value_of(typed, "--env", default_of(kind, "env"))
    preset = value_of(typed, "--preset", default_of(kind, "preset"))
    changes: dict[str, Any] = {}  # what decides on other defaults must be among them
    distractor = value_of(typed, "--distractor", "")
    changes["authors_pixels"] = "--authors-pixels" in typed
    if distractor in get_args(Distractor):
        changes["distractor"] = distractor
        changes["distractor_colour"] = "--distractor-colour" in typed
    changes |= _dcs(typed)
    repeat = value_of(typed, "--action-repeat", "")
    if re.fullmatch("[+]?0*[1-9][0-9]{0,3}", repeat) and int(repeat) <= MOST_REPEATS:
        changes["action_repeat"] = int(repeat)
        in_steps = [name for name in ("max_steps", "patience", "horizon") if name in names_of(kind)]
        changes |= {name: usual_steps(kind, env, preset, int(repeat), name) for name in in_steps}
    return {"default": usual(kind, env, preset, name, **changes)}


def _dcs(typed: Typed) -> dict[str, Any]:
    """What was typed of the Distracting Control Suite, as far as it makes sense."""
    changes: dict[str, Any] = {"dcs_static": "--dcs-static" in typed}
    if (intensity := value_of(typed, "--dcs-intensity", "")) in STRENGTHS:
        changes["dcs_intensity"] = intensity
    parts = typed.get("--dcs-parts", [])
    if parts and {*parts} <= {*PARTS}:
        changes["dcs_parts"] = tuple(parts)
    return changes


def _by_tyro(kind: type[Config], argv: list[str], called: str, defaults: dict[str, Any]) -> Config:
    """What tyro makes of the command line. Raises UserError with its complaint, if it has one."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config: Config = tyro.cli(kind, prog=called or None, args=argv, config=FLAT, registry=HELP, **defaults)
            return config
    except SystemExit as stop:
        if not stop.code:
            raise
        text = " ".join(re.sub(r"[╭╮╰╯│─]+", " ", complaint.getvalue()).split())
        raise UserError(re.split(r"(?:Argument helptext|For full helptext)", text)[0].strip()) from None


def _refuse_idle(config: Any, typed: Typed) -> None:
    """Raises UserError naming the first flag that was given and would do nothing."""
    for part in parts_of(config):
        for name, about in about_all(part).items():
            word = next((word for word in typed if flag(name) in (word, positive(word))), "")
            asked = config if about.only in OF_STAGE_4 else part
            if word and about.only and not about.only.holds(asked):
                given = shortened(" ".join(typed[word]))
                raise UserError(about.only.said.format(flag=word, add=about.only.add, given=given))


def _tell_of_former_folders(config: Any, typed: Typed) -> None:
    """Says where earlier versions put what they made so, if there is something there: they did not tell it apart by
    --action-repeat or --distractor-colour, or took another repeat for the usual one."""
    if not isinstance(config, Stage):
        return
    often = usual_repeat(config.env)
    slugs = [EnvSpec(config.env, often, config.distractor).slug]
    if config.action_repeat == often:
        shortest = EnvSpec(config.env, often).slug
        slugs += [config.spec.slug.replace(shortest, f"{shortest}-x{often}", 1)]
    for name in ("run", "data"):
        now = getattr(config, name)
        formers = [now.with_name(former) for former in slugs]
        there = [before for before in formers if before != now and before.exists()]
        if flag(name) not in typed and there and not now.exists():
            note = f"note: {flag(name)} is {now} by default; earlier versions took {there[0]}: give that to go on there"
            print(note, file=sys.stderr)
