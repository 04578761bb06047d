"""Every setting of every stage: a frozen dataclass per stage, presets per environment, and the command line.

A field is a flag; the text beneath it is its help. What a field is when no flag is given depends on `--preset` and
`--env` (presets.py).
"""

import contextlib
import dataclasses
import io
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import tyro

from worldmodels.errors import UserError, nearest
from worldmodels.presets import PRESETS

Preset = Literal["tiny", "laptop", "paper"]
PRESET_NAMES = ["tiny", "laptop", "paper"]


# Numbers that may be 0; all others must be above. A hidden layer of 0 units is none, but only in C.
MAY_BE_ZERO = {"seed", "workers", "noise", "min_steps", "clip", "kl_floor", "real_episodes", "hidden_size"}


def check_numbers(config: Any) -> None:
    """Raises UserError naming the flag whose number makes no sense."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            zero = field.name in MAY_BE_ZERO and not (field.name == "hidden_size" and hasattr(config, "mixtures"))
            if not (number > 0 or (zero and number == 0)) or not math.isfinite(number):
                raise UserError(
                    f"{flag(field.name)} {number:g} makes no sense; give {'0 or more' if zero else 'more than 0'}"
                )


def check_preset(preset: str) -> None:
    """Raises UserError if there is no such preset."""
    if preset not in PRESET_NAMES:
        raise UserError(f"--preset {preset} is unknown; {nearest(preset, PRESET_NAMES)}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What all stages share."""

    # Fields that may change when a run is resumed: where it computes, and how long, not what.
    FREE: ClassVar[frozenset[str]] = frozenset({"workers", "device", "fresh", "run", "data", "preset"})

    env: str = "doom"
    """Environment: doom, carracing, or any Gymnasium id whose observation is an image (my_package:MyEnv-v0)."""
    preset: Preset = "laptop"
    """Sizes: tiny (minutes, learns something), laptop (under two hours on two cores), paper (the paper's numbers)."""
    run: Path = Path()
    """Folder of everything learnt. Default: runs/<env>."""
    data: Path = Path()
    """Folder of rollouts and codes. Default: data/<env>."""
    seed: int = 0
    """The one seed that all randomness comes from."""
    workers: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    """Cores to use. Rollouts, dreams and scores do not depend on it; gradients round differently with another number.
    0 steps environments in this process, for debugging."""
    device: str = "auto"
    """Where networks compute: auto (cuda if there is one), cpu, cuda."""
    fresh: bool = False
    """Start anew: delete what this very command wrote before, instead of going on from it."""

    def __post_init__(self) -> None:
        name = self.env.split(":")[-1].replace("/", "-").lower()
        if self.run == Path():
            object.__setattr__(self, "run", Path("runs") / name)
        if self.data == Path():
            object.__setattr__(self, "data", Path("data") / name)
        check_numbers(self)
        check_preset(self.preset)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it goes on with, as plain data."""
        return {name: value for name, value in plain(self).items() if name not in self.FREE}


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

    FREE: ClassVar[frozenset[str]] = Stage.FREE | {"episodes"}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Stage):
    """What stages 2 and 3 share: the training loop's settings."""

    steps: int = 3000
    """Gradient steps."""
    batch_size: int = 128
    """Frames (stage 2) or sequences (stage 3) per gradient step."""
    learning_rate: float = 1e-3
    """Adam's step size at the start."""
    final_learning_rate: float = 1e-4
    """Adam's step size at the end; it falls geometrically in between."""
    clip: float = 0.0
    """Each element of the gradient is clipped to [-clip, clip]; 0 for no clipping."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of matrix products: auto is bf16 where the processor has it, else fp32. Weights are always fp32."""
    save_every: int = 250
    """Steps between checkpoints."""

    FREE: ClassVar[frozenset[str]] = Stage.FREE | {"save_every"}


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TrainConfig):
    """Stage 2: train V on the frames, then write the codes of all episodes beside the rollouts."""

    code_size: int = 32
    """Numbers in a code z (the paper: 32 for CarRacing, 64 for Doom)."""
    kl_floor: float = 0.5
    """Nats per code dimension below which the KL divergence is not pressed (CLASSIC 1.3)."""
    shuffle_buffer: int = 40_000
    """Frames held in memory to draw batches from (12 KB each)."""


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(TrainConfig):
    """Stage 3: train M on sequences of codes and actions."""

    hidden_size: int = 256
    """LSTM cells (the paper: 256 for CarRacing, 512 for Doom)."""
    mixtures: int = 5
    """Gaussians per code dimension."""
    sequence_length: int = 128
    """Steps of truncated back-propagation; the LSTM's state is carried on to the next batch."""
    restart_input: bool = False
    """Tell M when an episode has just begun (the paper's Doom model)."""
    reward: Literal["head", "alive", "none"] = "head"
    """What a dream pays: head (predicted), alive (1 per step: the paper's Doom), none (the paper's CarRacing)."""
    termination: bool = True
    """Predict the end of episodes; without it dreams end only by --max-steps."""
    termination_weight: float = 10.0
    """How much more the last step of an episode weighs in that prediction than the others."""
    shuffle_buffer: int = 2_000_000
    """Steps whose codes are held in memory to draw sequences from (256 bytes each for a code of 64)."""


Inputs = tuple[Literal["z", "h", "c"], ...]


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(Stage):
    """Stage 4: evolve C by CMA-ES, in the real environment or in M's dreams."""

    dream: bool = False
    """Evolve in dreams; the real environment is then used for nothing but the scores shown beside."""
    tau: tuple[float, ...] = ()
    """Temperature of the dreams. Several values: a sweep, one controller each. Default: 1.15 for Doom (the paper's),
    else 1."""
    name: str = ""
    """Folder of the controller below <run>/controller. Default: real, or tau<value>."""
    inputs: Inputs = ("z", "h")
    """What C sees: z h (CarRacing), z c h (Doom), z (the paper's ablation)."""
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
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of dreams: auto is bf16 where the processor has it, else fp32."""
    lockstep: int = 8
    """Real environments that one worker steps side by side."""
    deadline: float = 900.0
    """Seconds after which a worker's task counts as hung and is tried on a new worker."""

    FREE: ClassVar[frozenset[str]] = Stage.FREE | {"generations", "deadline", "final_episodes", "name"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau and not self.dream:
            raise UserError(f"--tau {' '.join(map(str, self.tau))} is a temperature of dreams; add --dream")
        if self.dream and not self.tau:
            object.__setattr__(self, "tau", (1.15 if self.env == "doom" else 1.0,))
        if len(self.tau) > 1 and self.name:
            raise UserError("--tau with several values makes one folder each: leave out --name")
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
    device: str = "auto"
    """Where networks compute: auto, cpu, cuda."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.episodes < 2:
            raise UserError(f"--episodes {self.episodes} tells no spread; at least 2")


Config = TypeVar("Config")


def parse(kind: type[Config], argv: list[str] | None = None) -> Config:
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
    preset = preset_of(kind, _value(argv, "--env", "doom"), _value(argv, "--preset", "laptop"))
    defaults = {"default": kind(**preset)} if issubclass(kind, Stage) else {}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=argv, **defaults)  # type: ignore[call-overload]
    except SystemExit as stop:
        if not stop.code:
            raise
        text = " ".join(re.sub(r"[╭╮╰╯│─]+", " ", complaint.getvalue()).split())
        raise UserError(re.split(r"(?:Argument helptext|For full helptext)", text)[0].strip()) from None


def preset_of(kind: type, env: str, preset: str) -> dict[str, Any]:
    """What `preset` sets for `env` in the stage `kind`."""
    check_preset(preset)
    table = PRESETS.get(kind.__name__, {})
    family = env if env in table else "other"
    chosen = table.get(family, {})
    return {"env": env, "preset": preset} | chosen.get("all", {}) | chosen.get(preset, {})


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready data."""
    as_plain = {Path: str, tuple: list}
    values = dataclasses.asdict(config)
    return {k: next((to(v) for t, to in as_plain.items() if isinstance(v, t)), v) for k, v in values.items()}


def flag(name: str) -> str:
    """The flag of a field: `pop_size` is --pop-size."""
    return "--" + name.replace("_", "-")


def _value(argv: list[str], name: str, default: str) -> str:
    for i, word in enumerate(argv):
        if word == name and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(name + "="):
            return word.split("=", 1)[1]
    return default
