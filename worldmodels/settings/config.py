"""Every setting of every stage: a frozen dataclass per stage. Those of V and M are in models/, one for each.

A field is a flag (command_line.py); the text beneath it is its help, and what else there is to say of the flag stands
in the field (flags.py). What a field is when no flag is given depends on `--preset` and `--env` (presets.py).
"""

import dataclasses
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.settings.environments import ask_for, record_of
from worldmodels.settings.envspec import PARTS, Distractor, EnvSpec, Intensity, Part
from worldmodels.settings.flags import Only, about_all, check_numbers, default_of, flag, names_of, parts_of, setting
from worldmodels.settings.models import MDNRNNSettings, MemorySettings, ModelSettings, VAESettings, named
from worldmodels.settings.planning import ByPlan
from worldmodels.settings.presets import check_preset, preset_of

Preset = Literal["tiny", "laptop", "paper"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
MOST_REPEATS = 1000  # of an action, as files may name them
MANY = 10_000_000  # steps or generations: what is more would not end
TAKEN = Only("--from", lambda asked: asked.from_ != Path())
PLAYED = Only(
    "",
    lambda asked: asked.from_ == Path(),
    "{flag} is for episodes that are played; leave it out, or --from",
)
COMPUTES = {"workers", "device", "ray", "deadline", "fresh", "dry_run"}
"""Settings that say how and where a command computes, and change no results."""
LIES = {"run", "data", "distractor_videos", "plugin"}
"""Settings that say where things lie."""
DREAMT = Only("--dream", lambda asked: asked.dream)
AWAKE = Only("", lambda asked: not asked.dream, "{flag} {given} is about the real environment; leave out --dream")
EVOLVED = Only("--learner cma-es", lambda asked: asked.learner == "cma-es")
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
    """Cores to use. Rollouts, dreams and scores do not depend on it; gradients round differently with another number.
    0 plays and dreams in this process, for debugging."""


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
    """Environment: doom, carracing, dmc:<domain>-<task> (dmc:walker-walk, dmc:manipulation-reach_duplo), or any
    Gymnasium id whose observation is an image (my_package:MyEnv-v0)."""
    action_repeat: int = setting(
        1,
        most=MOST_REPEATS,
        leads=True,
        only=Only(
            "--env dmc:...",
            lambda asked: record_of(asked.env).action_repeat is not None or asked.action_repeat == 1,
            "{flag} is for dmc environments, and what of your own can; others take 1",
        ),
    )
    """How often each action is applied before the next is asked for (dmc, and what of your own can)."""
    distractor: Distractor = setting("none", leads=True)
    """What moves behind the actors: none, noise, stills (photographs, slowly panned), video (dmc, carracing, doom). Or
    dcs, the Distracting Control Suite: camera, colours and sky change too (walker, cheetah, cartpole, reacher, finger
    and ball_in_cup of dmc)."""
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


@dataclass(frozen=True, kw_only=True)
class CollectConfig(OnCluster, Stage):
    """Stage 1: let a random (or trained) policy act, and write what happened to HDF5 shards."""

    from_: Path = setting(Path(), free=True)
    """Take episodes that exist instead: a file, or a folder, of .npz or .h5, with pictures (uint8), actions in [-1, 1]
    (or whole numbers, to choose from), and rewards and ends if there are; or a dataset of Minari or LeRobot. Any --env
    names them; the real one, if it is installed, can be acted in later (docs/recordings.md)."""
    keys: tuple[str, ...] = setting((), free=True, only=TAKEN)
    """What the arrays of those files are called, where not obs, action, reward, terminated, truncated, or in a dataset
    as is usual there: obs=frames terminated=dones."""
    scale_actions: bool = setting(False, free=True, only=TAKEN)
    """Actions go beyond [-1, 1]: of each number, the least of all that was recorded becomes -1, and the greatest 1."""
    episodes: int = setting(
        1000,
        least=2,
        too_few="are too few: the last one of a shard is held out from training",
        most=1_000_000,
        free=True,
    )
    """Episodes of this policy and seed to have on disk at the end; what is there already counts. Of --from, all are
    taken."""
    shard_size: int = setting(
        16, least=2, too_few="is too small: the last episode of a shard is held out from training", most=10_000
    )
    """Episodes per shard file. The last episode of each shard is held out from training."""
    policy: str = setting("paper", only=PLAYED)
    """paper (the authors' random policy for this env), held, varied, spicy, brownian, uniform, still, sweep, or the
    folder of a trained controller, whose episodes are added to what is there (the paper's iterative procedure)."""
    noise: float = setting(
        0.1,
        zero=True,
        only=Only("a trained controller's folder as --policy", lambda asked: Path(asked.policy).is_dir()),
    )
    """Standard deviation of the noise added to a trained controller's actions."""
    max_steps: int = setting(1000, most=MANY, only=PLAYED)
    """Steps after which an episode is truncated."""
    min_steps: int = setting(0, zero=True, most=MANY, only=PLAYED)
    """Episodes shorter than this are collected again with another seed (the authors: 100 in Doom)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_steps > self.max_steps:
            raise UserError(f"--min-steps {self.min_steps} is more than --max-steps {self.max_steps}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(InPrecision, OnDevice, Stage):
    """What stages 2 and 3 share: the training loop's settings."""

    steps: int = setting(3000)
    """Gradient steps. The learning rate falls over all of them, so a run cannot be made longer afterwards."""
    batch_size: int = setting(128, most=65_536)
    """Frames (stage 2) or sequences (stage 3) per gradient step; of each process, if torchrun starts several."""
    learning_rate: float = setting(1e-3)
    """Adam's step size at the start."""
    final_learning_rate: float = setting(1e-4)
    """Adam's step size at the end; it falls geometrically in between."""
    clip: float = setting(0.0, zero=True)
    """Each element of the gradient is clipped to [-clip, clip]; 0 for no clipping."""
    max_norm: float = setting(0.0, zero=True)
    """The gradient as a whole is scaled down to this norm; 0 for no limit."""
    save_every: int = setting(250, free=True)
    """Steps between checkpoints."""
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    """The settings of the V or M itself: flags like all others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_model(self)


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TrainConfig):
    """Stage 2: train V on the frames, then write the codes of all episodes beside the rollouts."""

    vision: str = setting("vae", leads=True)
    """vae (World Models), hrssm (learns what matters for the task and ignores backgrounds that merely move), or one of
    your own (my_package:MyV; docs/add_a_model.md). --help shows the flags of the one that is named beside it."""
    shuffle_buffer: int = setting(40_000)
    """Frames held in memory to draw batches from (12 KB each)."""
    model: ModelSettings = dataclasses.field(default_factory=VAESettings)

    MODEL: ClassVar[str] = "vision"


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(TrainConfig):
    """Stage 3: train M on sequences of codes and actions."""

    memory: str = setting("mdnrnn", leads=True)
    """mdnrnn (World Models), rssm (on codes of an HRSSM it goes on from V's own, with its sizes), or one of your own
    (my_package:MyM; docs/add_a_model.md). --help shows the flags of the one that is named beside it."""
    real_episodes: int = setting(64, zero=True, most=1_000_000, free=True)
    """Episodes of each trivial policy, real and dreamt, that show in the end whether dreams last as long as reality,
    where episodes end by themselves."""
    shuffle_buffer: int = setting(2_000_000)
    """Steps whose codes are held in memory to draw sequences from (256 bytes each for a code of 64)."""
    model: MemorySettings = dataclasses.field(default_factory=MDNRNNSettings)

    MODEL: ClassVar[str] = "memory"


@dataclass(frozen=True, kw_only=True)
class ControllerConfig(InPrecision, OnDevice, OnCluster, Stage):
    """Stage 4: evolve C by CMA-ES, in the real environment or in M's dreams; or train an actor there, with a critic."""

    learner: str = setting(
        "cma-es",
        leads=True,
        only=Only(
            "--dream",
            lambda asked: asked.dream or asked.learner == "cma-es",
            "{flag} {given} learns in dreams alone; add {add}",
        ),
    )
    """cma-es (World Models: a small C is evolved), actor-critic (HRSSM, Dreamer: an actor and a critic are trained in
    dreams, by the gradient through them), ppo (proximal policy optimisation: the same, without that gradient). --help
    shows the flags of the one that is named beside it."""
    dream: bool = setting(False, leads=True)
    """Learn in dreams; the real environment is then used for nothing but the scores shown beside."""
    tau: tuple[float, ...] = setting(
        (), least=1e-9, most=1e9, only=DREAMT._replace(said="{flag} {given} is a temperature of dreams; add {add}")
    )
    """Temperature of the dreams. Several values: a sweep, one controller each. Default: the environment's usual
    one, 1.15 for Doom (the paper's), else 1."""
    name: str = setting("", free=True)
    """Folder of the controller below <run>/controller. Default: real, or tau<value>; another learner's than cma-es has
    that learner's name in front."""
    inputs: tuple[str, ...] = setting(())
    """What C sees of V's code and M's memory. MDN-RNN: z, h, c; RSSM: z (sampled), probs (what it was sampled from), h,
    projection (HRSSM's). Default: h for an RSSM (docs/results.md); as the paper for an MDN-RNN: z h, in Doom z c h. An
    actor sees z besides."""
    hidden_size: int = setting(0, zero=True, most=65_536, only=EVOLVED)
    """Units of a tanh layer between (the paper's ablation: 40); 0 for a linear C."""
    bias: bool = setting(True, only=EVOLVED)
    """Whether C's outputs have a bias (CarRacing yes, Doom no, as the authors)."""
    generations: int = setting(100, most=MANY, free=True, only=EVOLVED)
    """Generations of CMA-ES."""
    pop_size: int = setting(64, least=4, too_few="is too small for CMA-ES", most=100_000, only=EVOLVED)
    """Candidates per generation."""
    episodes: int = setting(16, most=100_000, only=EVOLVED)
    """Episodes per candidate; all candidates of a generation meet the same seeds."""
    sigma0: float = setting(0.1, only=EVOLVED)
    """CMA-ES's first step size."""
    start_from: Path = setting(Path(), only=EVOLVED)
    """A controller's folder, or a run that holds exactly one: evolution begins at its numbers instead of at zero, in
    another world perhaps (evolved in dreams, now in reality)."""
    max_steps: int = setting(1000, most=MANY)
    """Steps after which an episode, dreamt or real, is truncated."""
    test_every: int = setting(10)
    """Generations between tests of the CMA mean on held-out seeds, or updates between those of an actor; the best that
    was tested is kept."""
    test_episodes: int = setting(256, most=1_000_000)
    """Episodes of such a test in the world that C learns in."""
    real_episodes: int = setting(16, zero=True, most=1_000_000, only=DREAMT)
    """Real episodes shown beside, when C learns in dreams. They choose nothing."""
    final_episodes: int = setting(100, zero=True, most=1_000_000, free=True)
    """Real episodes of the final score. 0, with --dream: nothing real is played, for there may be no environment."""
    patience: int = setting(0, zero=True, most=MANY, only=AWAKE)
    """Steps on end without a positive reward after which an episode is given up while C is evolved in the real
    environment (a car that has left the road); never in tests. 0: none is."""
    sample_end: bool = setting(False, only=DREAMT)
    """End a dream with the predicted probability, calibrated, instead of as soon as M's termination logit is positive
    (the paper). An M that was trained briefly is seldom sure enough for that, and its dreams would hardly end."""
    horizon: int = setting(0, zero=True, most=MANY, only=DREAMT)
    """Steps of a dream that begins in the midst of a real episode, so that M remembers what really happened until then,
    and has little time to drift. 0: dreams begin where episodes began, and last for up to --max-steps (the paper).
    What an actor is trained in is --imagine; it is tested in these."""
    lockstep: int = setting(8, most=256)
    """Real environments that one worker steps side by side."""
    deadline: float = setting(
        900.0, free=True, only=Only("--workers above 0, or --ray", lambda asked: asked.workers > 0 or asked.ray != "")
    )
    """Seconds after which a worker's task counts as hung and is tried on a new worker."""
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    """The settings of the learner itself: flags like all others."""

    MODEL: ClassVar[str] = "learner"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_model(self)
        if self.dream and not self.tau:
            object.__setattr__(self, "tau", (record_of(self.env).tau,))
        if self.name and (Path(self.name).name != self.name or self.name == ".."):
            raise UserError(f"--name {self.name} is to name one folder below <run>/controller, without a path")
        if len(self.tau) > 1 and self.name:
            raise UserError("--tau with several values makes one folder each: leave out --name")
        if len(set(self.inputs)) < len(self.inputs):
            raise UserError(f"--inputs {' '.join(self.inputs)} names one twice")
        if self.final_episodes == 1:
            raise UserError("--final-episodes 1 tells no spread; give at least 2")
        if not self.final_episodes and not self.dream:
            raise UserError("--final-episodes 0 scores nothing; give at least 2, or add --dream")
        folders = Counter(_folder_of(tau) for tau in self.tau)
        if twice := [folder for folder, count in folders.items() if count > 1]:
            raise UserError(
                f"--tau {' '.join(map(str, self.tau))} names one twice: two would share the folder {twice[0]}"
            )

    @property
    def folder(self) -> Path:
        """Where this controller lives (a sweep has one folder per temperature)."""
        default = _folder_of(self.tau[0]) if self.dream else "real"
        prefix = "" if self.learner == "cma-es" else f"{self.learner}-"
        return self.run / "controller" / (self.name or prefix + default)

    def each(self) -> "list[ControllerConfig]":
        """One for each controller: a sweep has several."""
        return [dataclasses.replace(self, tau=(tau,)) for tau in self.tau] if self.dream else [self]


def _check_model(config: Any) -> None:
    """Raises UserError if the settings of what a stage trains make no sense, or are another's."""
    check_numbers(config.model)
    name = getattr(config, config.MODEL)
    needed = named(name, config.MODEL).settings
    if type(config.model) is not needed:
        given = type(config.model).__name__
        raise UserError(f"{flag(config.MODEL)} {name} has settings of its own, {needed.__name__}, not {given}")


def _folder_of(tau: float) -> str:
    """What the folder of a controller is called that was evolved in dreams of this temperature."""
    return f"tau{tau:g}"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ByPlan, OnDevice, OnCluster, OnCores, OfAll):
    """Score a trained controller, or planning: mean, spread and confidence, beside the trivial baselines."""

    run: Path
    """A controller's folder, or a run that holds exactly one; with --plan, it may hold none."""
    episodes: int = setting(100, least=2, too_few="tells no spread", most=1_000_000)
    """Episodes per score."""
    dream: bool = setting(
        False,
        only=Only(
            "",
            lambda asked: asked.plan == "none" or not asked.dream,
            "{flag} scores a controller in dreams, and --plan acts in the real environment; leave out one of them",
        ),
    )
    """Score it in dreams too."""
    distractor_videos: Path = setting(Path())
    """Where the clips lie now, if not where they lay when the controller was evolved. Test clips are shown."""
    tau: float | None = setting(None, least=1e-9, most=1e9, only=DREAMT)
    """Temperature of those dreams. Default: the one it was trained at."""
    baselines: bool = setting(True)
    """Score the trivial policies of this environment too, on the same seeds."""
    video: bool = setting(True)
    """Film one episode: the game beside its reconstruction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plan != "none" and self.device not in ("auto", "cpu"):
            raise UserError(f"--device {self.device}: plans are dreamt on --workers' cores; leave it out, or --plan")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What the authors of World Models published (V, M, C, initial z), as a run: import-published DIR OUT."""

    PLACES: ClassVar[tuple[str, ...]] = ("source", "out")

    source: Path = setting(Path())
    """Folder of their .json files, sub-folders too: of CarRacing or of Doom. It may stand without its flag."""
    out: Path = setting(Path())
    """Folder for the run: empty, or not there yet. It may stand without its flag, too."""
    env: str = setting("")
    """carracing or doom, if there are files of both."""

    def __post_init__(self) -> None:
        if Path() in (self.source, self.out):
            raise UserError("give two folders, of the published files and for the run: import-published DIR OUT")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Several runs side by side: settings that differ, losses, scores; worldmodels compare RUN RUN ..."""

    PLACES: ClassVar[tuple[str, ...]] = ("run",)

    run: tuple[Path, ...]
    """Run folders; --run may be left out."""
    page: Path = setting(Path())
    """The page to write. Default: compare.html beside the first run."""

    def __post_init__(self) -> None:
        if len(self.run) < 2 or len(set(self.run)) < len(self.run):
            said = " ".join(map(str, self.run))
            raise UserError(f"--run {said} names fewer than two runs; give two or more, each of them once")


@dataclass(frozen=True, kw_only=True)
class RunConfig(InPrecision, OnDevice, OnCluster, Stage):
    """All stages, one after the other: collect, vision, memory, controller, evaluate.

    The same command again goes on where it was stopped. These flags are given once and hold for all stages. Those of
    one stage are given with its name, --vision.steps 100, --memory.steps 100, --controller.generations 10,
    --evaluate.episodes 50; without it, if only one stage has such a flag: --vision hrssm, --generations 10, --dream.
    Evaluation dreams as the controller did. `worldmodels STAGE --help` explains them.
    """


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(OnDevice, OnCores, OfAll):
    """What representations know: probes, linear and not, from features to the true state, on test backgrounds."""

    run: tuple[Path, ...]
    """Run folders that hold V, and M if there is one; several are compared on the same episodes."""
    episodes: int = setting(40, least=8, too_few="are too few to fit and tell a spread", most=100_000)
    """Episodes to fit on, and as many more to score on."""
    inputs: tuple[str, ...] = setting(())
    """Features of M to probe, beside V's code alone. Default: those that the controller gets by default."""
    policy: str = setting("")
    """Blind policy that plays. Default: the one that stage 1 collects with."""
    distractor_videos: Path = setting(Path())
    """Where the clips lie now, if not where they lay in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.run:
            raise UserError("--run names no run; give the folder of one, or of several")
        for name in ("run", "inputs"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise UserError(f"{flag(name)} {' '.join(map(str, values))} names one twice")


@dataclass(frozen=True, kw_only=True)
class PackConfig(OnCores, OfAll):
    """Hand a run on: V, M and its controllers in half precision, scored anew, with a card."""

    run: Path
    """A run folder."""
    out: Path
    """The folder to write; a run like any other."""
    episodes: int = setting(100, least=2, too_few="tells no spread", most=1_000_000)
    """Episodes per score on the card."""


@dataclass(frozen=True, kw_only=True)
class PlayConfig(OnDevice, OfAll):
    """Play inside a dream, on a page in your browser: worldmodels play RUN."""

    PLACES: ClassVar[tuple[str, ...]] = ("run",)

    run: Path = setting(Path("pretrained/doom"))
    """A run, or the folder of one of its controllers. It may be typed without the flag: worldmodels play runs/doom."""
    data: Path = setting(Path())
    """Where rollouts lie, from whose held-out episodes a dream may set out, beside those that are met on the page.
    Default: data/<env> and so on, if there is anything."""
    distractor_videos: Path = setting(Path())
    """Where the clips lie now, if not where they lay in training."""
    host: str = setting("127.0.0.1")
    """Address to serve. Another one than 127.0.0.1 lets others in: 0.0.0.0 whoever reaches this machine, such as your
    phone. There is no password."""
    port: int = setting(8000, zero=True, most=65_535)
    """Port to serve at; 0 for any that is free."""
    browser: bool = setting(True)
    """Open the page in a browser here, if there is one."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(OfAll):
    """The dream as files that need no Python, a page or ONNX alone: worldmodels export RUN --web DIR."""

    PLACES: ClassVar[tuple[str, ...]] = ("run",)

    run: Path
    """A run, or the folder of one of its controllers. It may be typed without the flag."""
    web: Path = setting(Path())
    """Folder for a page that dreams in the browser, for any server of files: empty, not there yet, or an export."""
    onnx: Path = setting(Path())
    """Folder for the networks alone, as ONNX, and what else a dream takes: for programs of your own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.web == self.onnx:
            both = "--web and --onnx name one folder; " if self.web != Path() else ""
            raise UserError(f"{both}give --web DIR for a page, --onnx DIR for ONNX alone, or two folders for both")


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
        name: _plain(value) for name, value in declared.items() if isinstance(value, bool | int | float | str | tuple)
    }


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready data, its model's settings among the others; those of evolution if C evolves."""
    values = dataclasses.asdict(config)
    values |= values.pop("model", {})
    idle = {name for name, about in about_all(config).items() if about.only is EVOLVED and not EVOLVED.holds(config)}
    return {name: _plain(value) for name, value in values.items() if name not in idle}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
