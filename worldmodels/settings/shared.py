"""What the settings of several commands have in common, and what can be done with any.

A field is a flag (command_line.py); the text beneath it is its help, and what else there is to say of the flag stands
in the field (flags.py). What a field is when no flag is given depends on `--preset` and `--env` (presets.py).
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.settings.environments import ask_for, record_of
from worldmodels.settings.envspec import PARTS, Distractor, EnvSpec, Intensity, Part
from worldmodels.settings.flags import (
    OF_STAGE_4,
    Only,
    about_all,
    check_numbers,
    default_of,
    names_of,
    parts_of,
    setting,
)
from worldmodels.settings.models import named
from worldmodels.settings.presets import check_preset, preset_of

Preset = Literal["tiny", "laptop", "paper"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
MOST_REPEATS = 1000  # of an action, as files may name them
COMPUTES = {"workers", "device", "ray", "deadline", "fresh", "dry_run"}
"""Settings that say how and where a command computes. They change no results, but --workers what V and M learn."""
LIES = {"run", "data", "distractor_videos", "plugin"}
"""Settings that say where things lie."""
DCS = Only("--distractor dcs", lambda asked: asked.distractor == "dcs")


@dataclass(frozen=True, kw_only=True)
class OfAll:
    """What all commands share."""

    seed: int = setting(0, zero=True, most=2**63 - 1)
    """The one seed that all randomness comes from. Scores and probes draw from streams of their own, never met in
    training."""
    plugin: tuple[str, ...] = setting((), free=True)
    """Modules of your own to import, that register environments or hold models (my_package). Whatever a run's files
    name, only these and what is in them are imported."""

    def __post_init__(self) -> None:
        plugins.use(*self.plugin)
        check_numbers(self)


@dataclass(frozen=True, kw_only=True)
class OnCores:
    """What all share that compute as much as they can."""

    workers: int = setting(CORES, zero=True, most=4096, free=True)
    """Cores to use. Rollouts, dreams and scores do not depend on it. What V and M learn does, as on another seed:
    gradients of V round differently, and an MDN-RNN's rows meet other noise. 0 plays and dreams in this process, for
    debugging."""


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """What all share whose networks may compute on a GPU."""

    device: str = setting("auto", free=True)
    """Where networks compute: auto (cuda if there is one), cpu, cuda."""


@dataclass(frozen=True, kw_only=True)
class InPrecision:
    """What all share who can choose how exactly networks compute."""

    precision: Literal["auto", "bf16", "fp32"] = setting("auto")
    """Arithmetic of V's and M's matrix products: auto is bf16 where the processor has it, else fp32. Weights that are
    trained are always fp32."""


@dataclass(frozen=True, kw_only=True)
class OnCluster:
    """What all share that can play elsewhere."""

    ray: str = setting("", free=True)
    """Play (and dream) on a Ray cluster instead of --workers here: auto (that which this machine is a node of), or the
    address of its head. Results are the same (docs/cluster.md)."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a stage takes place: in which environment, and in which folders."""

    env: str = setting("doom", leads=True)
    """Environment: doom, carracing, dmc:<domain>-<task> (dmc:walker-walk, dmc:manipulation-reach_duplo),
    maniskill:<task> (maniskill:PushCube), or any Gymnasium id whose observation is an image (my_package:MyEnv-v0)."""
    action_repeat: int = setting(
        1,
        most=MOST_REPEATS,
        leads=True,
        only=Only(
            "--env dmc:...",
            lambda asked: record_of(asked.env).action_repeat is not None or asked.action_repeat == 1,
            "{flag} is for carracing, dmc environments, and what of your own can; others take 1",
        ),
    )
    """How often each action is applied before the next is asked for (dmc, carracing, and what of your own can)."""
    distractor: Distractor = setting("none", leads=True)
    """What moves behind the actors: none, noise, stills (photographs, slowly panned), video (dmc, maniskill, carracing,
    doom). Or dcs, the Distracting Control Suite: camera, colours and sky change too (walker, cheetah, cartpole,
    reacher, finger and ball_in_cup of dmc)."""
    distractor_videos: Path = setting(Path(), free=True)
    """Folder of clips (mp4, avi, webm, mov, mkv, or a folder of jpg or png for each; sub-folders too): train/ and test/
    in it, or else the last quarter by name are for tests. The controller's final score, evaluate and probe show test
    clips, everything else training clips."""
    distractor_colour: bool = setting(
        False,
        only=Only(
            "--distractor noise, stills or video",
            lambda asked: asked.distractor not in ("none", "dcs"),
            "{flag} colours a moving background; add {add}, or leave it out",
        ),
    )
    """Backgrounds in colour; else grey, as HRSSM's authors have them (dcs: always in colour)."""
    dcs_intensity: Intensity = setting("easy", leads=True, only=DCS)
    """How much dcs distracts: easy, medium, hard (scales of 0.1, 0.2, 0.3, with 4, 8, all clips), or DMControl-GB's
    0.025, 0.05 (2 clips), 0.15 (6), 0.4, 0.5 (all)."""
    dcs_parts: tuple[Part, ...] = setting(PARTS, leads=True, only=DCS)
    """What dcs distracts by: camera colour background, or some of them. Only background needs --distractor-videos."""
    dcs_static: bool = setting(False, leads=True, only=DCS)
    """What dcs draws at an episode's beginning stays until its end; else it wanders on."""
    authors_pixels: bool = setting(
        False,
        leads=True,
        only=Only("--env doom or carracing", lambda asked: record_of(asked.env).published is not None),
    )
    """Pictures as the code of World Models' authors made them, for weights that they published (doom, carracing;
    `worldmodels import-published`)."""
    preset: Preset = setting("laptop", free=True)
    """Sizes: tiny (minutes, learns something), laptop (under two hours on two cores), paper (the papers' numbers: World
    Models', for --vision hrssm and --memory rssm HRSSM's; what a paper never tried is ours)."""
    run: Path = setting(Path(), free=True)
    """Folder of everything learnt. Default: runs/<env>[-x<action-repeat>][-<distractor>]."""
    data: Path = setting(Path(), free=True)
    """Folder of rollouts and codes. Default: data/<env>[-x<action-repeat>][-<distractor>]."""


@dataclass(frozen=True, kw_only=True)
class Stage(OnCores, OfAll, Place):
    """What all stages share."""

    # The field that names the V or M whose settings are in `model`; "" for a stage that trains none.
    MODEL: ClassVar[str] = ""

    fresh: bool = setting(False, free=True)
    """Start anew: delete what this very command wrote before, instead of going on from it."""
    dry_run: bool = setting(False, free=True)
    """Only say how long this would take here and how much disk and memory, from a few seconds' measurement."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ask_for(self.env)
        if not self.dcs_parts:
            raise UserError("--dcs-parts names none of camera, colour, background; give one or more")
        object.__setattr__(self, "dcs_parts", self.spec.parts)  # in one order, however they were typed
        slug = self.spec.slug
        if self.run == Path():
            object.__setattr__(self, "run", Path("runs") / slug)
        if self.data == Path():
            object.__setattr__(self, "data", Path("data") / slug)
        check_preset(self.preset)

    @property
    def spec(self) -> EnvSpec:
        """The environment in full."""
        spec = EnvSpec(
            self.env,
            self.action_repeat,
            self.distractor,
            colour=self.distractor_colour,
            authors_pixels=self.authors_pixels,
            intensity=self.dcs_intensity,
            parts=self.dcs_parts,
            static=self.dcs_static,
        )
        return spec.with_videos(self.distractor_videos)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it goes on with, as plain data."""
        free = {name for part in parts_of(self) for name, about in about_all(part).items() if about.free}
        return {name: value for name, value in plain(self).items() if name not in free}

    def leading(self) -> list[str]:
        """The settings that others follow from."""
        return [name for name, about in about_all(self).items() if about.leads]


Config = TypeVar("Config", bound=Stage)


def usual(kind: type[Config], env: str, preset: str, name: str = "", **changes: Any) -> Config:
    """A stage's settings where nothing is given but these, and `changes`.

    Args:
        kind: of the stage.
        env, preset: that other defaults depend on.
        name: of the V or M, in a stage that trains one; "" for its default.
        changes: of the stage's settings or its model's.
    """
    if not kind.MODEL:
        return kind(**preset_of(kind, env, preset) | changes)
    name = name or default_of(kind, kind.MODEL)
    model = named(name, kind.MODEL).settings
    given = preset_of(kind, env, preset, model) | changes | {kind.MODEL: name}
    own = names_of(model)
    shared = names_of(kind)
    settings = model(**{field: value for field, value in given.items() if field in own})
    return kind(**{field: value for field, value in given.items() if field in shared} | {"model": settings})


def defaults(config: Any) -> dict[str, Any]:
    """What the settings of a configuration, and of its model, are where nothing at all is said; as plain data."""
    declared = {field.name: field.default for part in parts_of(config) for field in dataclasses.fields(part)}
    return {
        name: _plain(value)
        for name, value in declared.items()
        if isinstance(value, bool | int | float | str | tuple | Path)
    }


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready data, its model's settings among the others; those of evolution if C evolves, those
    of dreams if it learns there."""
    values = dataclasses.asdict(config)
    values |= values.pop("model", {})
    only = {name: about.only for part in parts_of(config) for name, about in about_all(part).items()}
    idle = {name for name, when in only.items() if when in OF_STAGE_4 and not when.holds(config)}
    return {name: _plain(value) for name, value in values.items() if name not in idle}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
