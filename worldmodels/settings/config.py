"""Every setting of every stage: a frozen dataclass per stage. Those of V and M are in models/, one for each.

A field is a flag (command_line.py); the text beneath it is its help. What a field is when no flag is given depends on
`--preset` and `--env` (presets.py).
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.settings.environments import ask_for, record_of
from worldmodels.settings.envspec import Distractor, EnvSpec
from worldmodels.settings.models import MDNRNNSettings, MemorySettings, ModelSettings, VAESettings, named
from worldmodels.settings.presets import check_preset, preset_of

Preset = Literal["tiny", "laptop", "paper"]


# Numbers that may be 0; all others must be above. Models have a list of their own.
MAY_BE_ZERO = frozenset(
    {"seed", "workers", "noise", "min_steps", "clip", "max_norm", "real_episodes", "hidden_size"}  # of C: no layer
)


def check_numbers(config: Any) -> None:
    """Raises UserError naming the flag whose number makes no sense."""
    may_be_zero = getattr(config, "MAY_BE_ZERO", MAY_BE_ZERO)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            zero = field.name in may_be_zero
            if not (number > 0 or (zero and number == 0)) or not math.isfinite(number):
                raise UserError(
                    f"{flag(field.name)} {number:g} makes no sense; give {'0 or more' if zero else 'more than 0'}"
                )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What all stages share."""

    # Fields that may change when a run is resumed: where it computes, and how long, not what.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"workers", "device", "fresh", "dry_run", "run", "data", "preset", "distractor_videos", "plugin"}
    )
    # Fields that mean something only where another one has a certain value.
    ONLY: ClassVar[Mapping[str, tuple[str, object]]] = {}
    # The field that names the V or M whose settings are in `model`; "" for a stage that trains none.
    MODEL: ClassVar[str] = ""

    env: str = "doom"
    """Environment: doom, carracing, dmc:<domain>-<task> (dmc:walker-walk), or any Gymnasium id whose observation is an
    image (my_package:MyEnv-v0)."""
    action_repeat: int = 1
    """How often each action is applied before the next is asked for (dmc, and what of your own can)."""
    distractor: Distractor = "none"
    """What moves behind the actors: none, noise, stills (photographs, slowly panned), video (dmc, carracing, doom)."""
    distractor_videos: Path = Path()
    """Folder of clips (mp4, avi, webm, mov, mkv; sub-folders too): train/ and test/ in it, or else the last quarter by
    name are for tests. The controller's final score, evaluate and probe show test clips, everything else training
    clips."""
    distractor_colour: bool = False
    """Backgrounds in colour; else grey, as HRSSM's authors have them."""
    preset: Preset = "laptop"
    """Sizes: tiny (minutes, learns something), laptop (under two hours on two cores), paper (the papers' numbers: World
    Models', for --vision hrssm and --memory rssm HRSSM's; what a paper never tried is ours)."""
    run: Path = Path()
    """Folder of everything learnt. Default: runs/<env>[-<distractor>]."""
    data: Path = Path()
    """Folder of rollouts and codes. Default: data/<env>[-<distractor>]."""
    seed: int = 0
    """The one seed that all randomness comes from."""
    workers: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    """Cores to use. Rollouts, dreams and scores do not depend on it; gradients round differently with another number.
    0 plays and dreams in this process, for debugging."""
    fresh: bool = False
    """Start anew: delete what this very command wrote before, instead of going on from it."""
    dry_run: bool = False
    """Only say how long this would take here and how much disk and memory, from a few seconds' measurement."""
    plugin: tuple[str, ...] = ()
    """Modules of your own to import, that register environments or hold models (my_package). Whatever a run's files
    name, only these are imported."""

    def __post_init__(self) -> None:
        plugins.use(*self.plugin)
        ask_for(self.env)
        if self.run == Path():
            object.__setattr__(self, "run", Path("runs") / self.spec.slug)
        if self.data == Path():
            object.__setattr__(self, "data", Path("data") / self.spec.slug)
        check_numbers(self)
        check_preset(self.preset)
        if self.distractor_colour and self.distractor == "none":
            raise UserError("--distractor-colour colours a moving background; add --distractor noise, stills or video")
        if self.distractor_videos != Path() and self.distractor != "video":
            raise UserError("--distractor-videos holds clips for --distractor video; add that")

    @property
    def spec(self) -> EnvSpec:
        """The environment in full."""
        spec = EnvSpec(self.env, self.action_repeat, self.distractor, colour=self.distractor_colour)
        return spec.with_videos(self.distractor_videos)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it goes on with, as plain data."""
        return {name: value for name, value in plain(self).items() if name not in self.FREE}


Config = TypeVar("Config", bound=Stage)


@dataclass(frozen=True, kw_only=True)
class CollectConfig(Stage):
    """Stage 1: let a random (or trained) policy act, and write what happened to HDF5 shards."""

    episodes: int = 1000
    """Episodes of this policy and seed to have on disk at the end; what is there already counts."""
    shard_size: int = 16
    """Episodes per shard file. The last episode of each shard is held out from training."""
    policy: str = "paper"
    """paper (the authors' random policy for this env), held, varied, spicy, brownian, uniform, still, sweep, or the
    folder of a trained controller, whose episodes are added to what is there (the paper's iterative procedure)."""
    noise: float = 0.1
    """Standard deviation of the noise added to a trained controller's actions."""
    max_steps: int = 1000
    """Steps after which an episode is truncated."""
    min_steps: int = 0
    """Episodes shorter than this are collected again with another seed (the authors: 100 in Doom)."""
    ray: str = ""
    """Play (and dream) on a Ray cluster instead of --workers here: auto (that which this machine is a node of), or the
    address of its head. Results are the same (docs/cluster.md)."""

    FREE: ClassVar[frozenset[str]] = Stage.FREE | {"episodes", "ray"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episodes < 2 or self.shard_size < 2:
            name = "episodes" if self.episodes < 2 else "shard_size"
            raise UserError(f"{flag(name)} must be at least 2: the last episode of a shard is held out from training")
        if self.min_steps > self.max_steps:
            raise UserError(f"--min-steps {self.min_steps} is more than --max-steps {self.max_steps}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Stage):
    """What stages 2 and 3 share: the training loop's settings."""

    steps: int = 3000
    """Gradient steps. The learning rate falls over all of them, so a run cannot be made longer afterwards."""
    batch_size: int = 128
    """Frames (stage 2) or sequences (stage 3) per gradient step; of each process, if torchrun starts several."""
    learning_rate: float = 1e-3
    """Adam's step size at the start."""
    final_learning_rate: float = 1e-4
    """Adam's step size at the end; it falls geometrically in between."""
    clip: float = 0.0
    """Each element of the gradient is clipped to [-clip, clip]; 0 for no clipping."""
    max_norm: float = 0.0
    """The gradient as a whole is scaled down to this norm; 0 for no limit."""
    device: str = "auto"
    """Where networks compute: auto (cuda if there is one), cpu, cuda."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of matrix products: auto is bf16 where the processor has it, else fp32. Weights are always fp32."""
    save_every: int = 250
    """Steps between checkpoints."""
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    """The settings of the V or M itself: flags like all others."""

    FREE: ClassVar[frozenset[str]] = Stage.FREE | {"save_every"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self.model)
        name = getattr(self, self.MODEL)
        needed = named(name, self.MODEL).settings
        if type(self.model) is not needed:
            given = type(self.model).__name__
            raise UserError(f"{flag(self.MODEL)} {name} has settings of its own, {needed.__name__}, not {given}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TrainConfig):
    """Stage 2: train V on the frames, then write the codes of all episodes beside the rollouts."""

    vision: str = "vae"
    """vae (World Models), hrssm (learns what matters for the task and ignores backgrounds that merely move), or one of
    your own (my_package:MyV; docs/add_a_model.md). --help shows the flags of the one that is named beside it."""
    shuffle_buffer: int = 40_000
    """Frames held in memory to draw batches from (12 KB each)."""
    model: ModelSettings = dataclasses.field(default_factory=VAESettings)

    MODEL: ClassVar[str] = "vision"


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(TrainConfig):
    """Stage 3: train M on sequences of codes and actions."""

    memory: str = "mdnrnn"
    """mdnrnn (World Models), rssm (on codes of an HRSSM it goes on from V's own, with its sizes), or one of your own
    (my_package:MyM; docs/add_a_model.md). --help shows the flags of the one that is named beside it."""
    shuffle_buffer: int = 2_000_000
    """Steps whose codes are held in memory to draw sequences from (256 bytes each for a code of 64)."""
    model: MemorySettings = dataclasses.field(default_factory=MDNRNNSettings)

    MODEL: ClassVar[str] = "memory"


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Stage):
    """Stage 4: evolve C by CMA-ES, in the real environment or in M's dreams."""

    dream: bool = False
    """Evolve in dreams; the real environment is then used for nothing but the scores shown beside."""
    tau: tuple[float, ...] = ()
    """Temperature of the dreams. Several values: a sweep, one controller each. Default: the environment's usual
    one, 1.15 for Doom (the paper's), else 1."""
    name: str = ""
    """Folder of the controller below <run>/controller. Default: real, or tau<value>."""
    inputs: tuple[str, ...] = ()
    """What C sees of V's code and M's memory. MDN-RNN: z, h, c; RSSM: z (sampled), probs (what it was sampled from), h,
    projection (HRSSM's). Default: h for an RSSM (docs/results.md); as the paper for an MDN-RNN: z h, in Doom z c h."""
    hidden_size: int = 0
    """Units of a tanh layer between (the paper's ablation: 40); 0 for a linear C."""
    bias: bool = True
    """Whether C's outputs have a bias (CarRacing yes, Doom no, as the authors)."""
    generations: int = 100
    """Generations of CMA-ES."""
    pop_size: int = 64
    """Candidates per generation."""
    episodes: int = 16
    """Episodes per candidate; all candidates of a generation meet the same seeds."""
    sigma0: float = 0.1
    """CMA-ES's first step size."""
    max_steps: int = 1000
    """Steps after which an episode, dreamt or real, is truncated."""
    test_every: int = 10
    """Generations between tests of the CMA mean on held-out seeds; the best tested mean is kept."""
    test_episodes: int = 256
    """Episodes of such a test in the world that C evolves in."""
    real_episodes: int = 16
    """Real episodes shown beside, when C evolves in dreams. They choose nothing."""
    final_episodes: int = 100
    """Real episodes of the final score."""
    sample_end: bool = False
    """End a dream with the predicted probability, calibrated, instead of as soon as M's termination logit is positive
    (the paper). An M that was trained briefly is seldom sure enough for that, and its dreams would hardly end."""
    device: str = "auto"
    """Where networks compute: auto (cuda if there is one), cpu, cuda."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of V's and M's matrix products: auto is bf16 where the processor has it, else fp32."""
    lockstep: int = 8
    """Real environments that one worker steps side by side."""
    deadline: float = 900.0
    """Seconds after which a worker's task counts as hung and is tried on a new worker."""
    ray: str = ""
    """Play (and dream) on a Ray cluster instead of --workers here: auto (that which this machine is a node of), or the
    address of its head. Results are the same (docs/cluster.md)."""

    FREE: ClassVar[frozenset[str]] = Stage.FREE | {"generations", "deadline", "final_episodes", "name", "ray"}
    ONLY: ClassVar[Mapping[str, tuple[str, object]]] = dict.fromkeys(("sample_end", "real_episodes"), ("dream", True))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau and not self.dream:
            raise UserError(f"--tau {' '.join(map(str, self.tau))} is a temperature of dreams; add --dream")
        if self.dream and not self.tau:
            object.__setattr__(self, "tau", (record_of(self.env).tau,))
        if self.name and (Path(self.name).name != self.name or self.name == ".."):
            raise UserError(f"--name {self.name} is to name one folder below <run>/controller, without a path")
        if len(self.tau) > 1 and self.name:
            raise UserError("--tau with several values makes one folder each: leave out --name")
        for name in ("tau", "inputs"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise UserError(f"{flag(name)} {' '.join(map(str, values))} names one twice")
        if self.final_episodes < 2:
            raise UserError(f"--final-episodes {self.final_episodes} tells no spread; at least 2")
        if self.pop_size < 4:
            raise UserError(f"--pop-size {self.pop_size} is too small for CMA-ES; at least 4")

    @property
    def folder(self) -> Path:
        """Where this controller lives (a sweep has one folder per temperature)."""
        default = f"tau{self.tau[0]:g}" if self.dream else "real"
        return self.run / "controller" / (self.name or default)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a trained controller: mean, spread and confidence, beside the trivial baselines."""

    run: Path
    """A controller's folder, or a run that holds exactly one."""
    episodes: int = 100
    """Episodes per score."""
    dream: bool = False
    """Score it in dreams too."""
    distractor_videos: Path = Path()
    """Where the clips lie now, if not where they lay when the controller was evolved. Test clips are shown."""
    tau: float | None = None
    """Temperature of those dreams. Default: the one it was trained at."""
    baselines: bool = True
    """Score the trivial policies of this environment too, on the same seeds."""
    video: bool = True
    """Film one episode: the game beside its reconstruction."""
    seed: int = 0
    """Seed of the test episodes (a stream of its own, never met in training)."""
    workers: int = Stage.workers
    """Cores to use."""
    ray: str = ""
    """Play (and dream) on a Ray cluster instead of --workers here: auto (that which this machine is a node of), or the
    address of its head. Results are the same (docs/cluster.md)."""
    device: str = "auto"
    """Where networks compute: auto, cpu, cuda."""
    plugin: tuple[str, ...] = ()
    """Modules of your own to import, that register environments or hold models (my_package). Whatever a run's files
    name, only these are imported."""

    def __post_init__(self) -> None:
        plugins.use(*self.plugin)
        check_numbers(self)
        if self.episodes < 2:
            raise UserError(f"--episodes {self.episodes} tells no spread; at least 2")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What representations know: linear probes from features to the true physical state, on test backgrounds."""

    run: tuple[Path, ...]
    """Run folders that hold V and M; several are compared on the same episodes."""
    episodes: int = 40
    """Episodes to fit on, and as many more to score on."""
    inputs: tuple[str, ...] = ()
    """Features to probe, beside V's code alone. Default: those that the controller gets by default."""
    policy: str = ""
    """Blind policy that plays. Default: the one that stage 1 collects with."""
    distractor_videos: Path = Path()
    """Where the clips lie now, if not where they lay in training."""
    seed: int = 0
    """Seed of the episodes (streams of their own, never met in training)."""
    workers: int = Stage.workers
    """Cores to use."""
    device: str = "auto"
    """Where networks compute: auto, cpu, cuda."""
    plugin: tuple[str, ...] = ()
    """Modules of your own to import, that register environments or hold models (my_package). Whatever a run's files
    name, only these are imported."""

    def __post_init__(self) -> None:
        plugins.use(*self.plugin)
        check_numbers(self)
        if self.episodes < 8:
            raise UserError(f"--episodes {self.episodes} are too few to fit and tell a spread; at least 8")


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
    own, shared = names_of(model), names_of(kind)
    settings = model(**{field: value for field, value in given.items() if field in own})
    return kind(**{field: value for field, value in given.items() if field in shared} | {"model": settings})


def default_of(kind: type, name: str) -> Any:
    """A field's default."""
    return next(field.default for field in dataclasses.fields(kind) if field.name == name)


def names_of(kind: type) -> list[str]:
    """The fields of a dataclass of settings."""
    return [field.name for field in dataclasses.fields(kind)]


def defaults(config: Any) -> dict[str, Any]:
    """What the settings of a configuration, and of its model, are where nothing at all is said; as plain data."""
    parts = [part for part in (config, getattr(config, "model", None)) if part is not None]
    declared = {field.name: field.default for part in parts for field in dataclasses.fields(part)}
    return {name: value for name, value in declared.items() if isinstance(value, bool | int | float | str)}


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready data, its model's settings among the others."""
    as_plain = {Path: str, tuple: list}
    values = dataclasses.asdict(config)
    values |= values.pop("model", {})
    return {k: next((to(v) for t, to in as_plain.items() if isinstance(v, t)), v) for k, v in values.items()}


def flag(name: str) -> str:
    """The flag of a field: `pop_size` is --pop-size."""
    return "--" + name.replace("_", "-")
