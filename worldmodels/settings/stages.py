"""Every setting of the four stages: a frozen dataclass for each. Those of V, M and learners have files of their own."""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from worldmodels.core.errors import UserError
from worldmodels.settings.environments import record_of
from worldmodels.settings.flags import DREAMT, EPISODIC, EVOLVED, Only, check_numbers, flag, setting
from worldmodels.settings.models import ActorSettings, MDNRNNSettings, MemorySettings, ModelSettings, VAESettings, named
from worldmodels.settings.shared import InPrecision, OnCluster, OnDevice, Stage

MANY = 10_000_000  # steps or generations: what is more would not end
TAKEN = Only("--from", lambda asked: asked.from_ != Path())
PLAYED = Only(
    "",
    lambda asked: asked.from_ == Path(),
    "{flag} is for episodes that are played; leave it out, or --from",
)
AWAKE = Only("", lambda asked: not asked.dream, "{flag} {given} is about the real environment; leave out --dream")


def _is_folder(policy: str) -> bool:
    """Whether a controller's folder is meant, which need not be there yet."""
    return Path(policy).is_dir() or len(Path(policy).parts) > 1


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
    also: Path = setting(Path(), free=True, only=PLAYED)
    """Rollouts to learn from, too: those of another --data folder, which are linked into this one. Nothing but those
    and the episodes of this policy may lie here; --fresh removes what does."""
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
        only=Only("a trained controller's folder as --policy", lambda asked: _is_folder(asked.policy)),
    )
    """Standard deviation of the noise added to a trained controller's actions."""
    max_steps: int = setting(1000, most=MANY, only=PLAYED)
    """Steps after which an episode is truncated."""
    min_steps: int = setting(0, zero=True, most=MANY, only=PLAYED)
    """Episodes shorter than this are collected again with another seed (the authors: 100 in Doom)."""
    patience: int = setting(0, zero=True, most=MANY, only=PLAYED)
    """Steps on end without a positive reward after which an episode is given up (a car that has left the road), so that
    more of what is learnt from is where rewards are. 0: none is."""

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
    start_from: Path = setting(Path())
    """Another run, whose V (stage 2) or M (stage 3) is of the same kind and sizes: that of this run begins with its
    weights instead of anew, while Adam and the learning rate begin anew."""
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
            lambda asked: asked.dream or asked.learner != "actor-critic",
            "{flag} {given} learns in dreams alone; add {add}",
        ),
    )
    """cma-es (World Models: a small C is evolved), actor-critic (HRSSM, Dreamer: an actor and a critic are trained in
    dreams, by the gradient through them), ppo (proximal policy optimisation: without that gradient, in dreams or in
    the real environment). --help shows the flags of the one that is named beside it."""
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
    episodes: int = setting(16, most=100_000, only=EPISODIC)
    """Episodes per candidate; all candidates of a generation meet the same seeds. Of ppo without --dream: episodes that
    an update learns from."""
    caution: float = setting(0.0, zero=True, only=EVOLVED)
    """How many standard deviations between its episodes are taken from a candidate's mean return: in worlds that differ
    (--dream-dropout, an M with --members), what is good in some and bad in others then counts for less. Tests, by which
    the best is kept, go by the mean alone."""
    sigma0: float = setting(0.1, only=EVOLVED)
    """CMA-ES's first step size."""
    start_from: Path = setting(Path())
    """A controller's folder, or a run that holds exactly one: C begins with its numbers instead of anew, in another
    world perhaps (evolved in dreams, now in reality). An actor's critic comes along as it was at its last update, if
    the checkpoint lies beside; else, with ppo, a new one first learns what the actor is paid."""
    or_from: tuple[Path, ...] = setting((), only=Only("--start-from", lambda asked: asked.start_from != Path()))
    """Other controllers: C begins with that of these and of --start-from which was paid most, in mean over the episodes
    that it played in --data."""
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
    """Steps on end without a positive reward after which an episode is given up while C learns in the real environment
    (a car that has left the road); never in tests. Ppo takes it that such an episode pays nothing more. 0: none is."""
    sample_end: bool = setting(False, only=DREAMT)
    """End a dream with the predicted probability, calibrated, instead of as soon as M's termination logit is positive
    (the paper). An M that was trained briefly is seldom sure enough for that, and its dreams would hardly end."""
    horizon: int = setting(0, zero=True, most=MANY, only=DREAMT)
    """Steps of a dream that begins in the midst of a real episode, so that M remembers what really happened until then,
    and has little time to drift; where controllers have played, of an episode of the last one. 0: dreams begin where
    episodes began, and last for up to --max-steps (the paper). actor-critic is trained in --imagine, and tested in
    these."""
    dream_dropout: float = setting(0.0, zero=True, only=DREAMT)
    """Each dream is a world of its own: this share of z and h is hidden from M in it, from its beginning to its end. M
    must have been trained with --dropout. The final score in dreams is that of M itself."""
    lockstep: int = setting(8, most=256)
    """Real environments that one worker steps side by side. In an update of ppo, --episodes / --lockstep workers find
    work."""
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
        if self.dream and self.learner == "ppo" and not self.sample_end:
            raise UserError("--learner ppo learns by how likely dreams are to end; leave out --no-sample-end")
        if self.dream and not self.tau:
            object.__setattr__(self, "tau", (record_of(self.env).tau,))
        if self.caution and self.episodes == 1:
            raise UserError(f"--caution {self.caution:g} goes by how episodes differ; give more than --episodes 1")
        if self.dream_dropout >= 1:
            raise UserError(f"--dream-dropout {self.dream_dropout:g} hides everything; give less than 1")
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
    def short_dreams(self) -> int:
        """How long dreams are that begin midway: --horizon; 0 if none do, or C learns in the real environment, whatever
        a preset says of dreams."""
        return self.horizon if self.dream else 0

    @property
    def length(self) -> tuple[str, int]:
        """The setting that says how long its learner learns, and what it says."""
        if isinstance(self.model, ActorSettings):
            return "updates", self.model.updates
        return "generations", self.generations

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
