"""Every setting of the commands beside the stages: a frozen dataclass for each."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from worldmodels.core.errors import UserError
from worldmodels.settings.flags import DREAMT, Only, flag, setting
from worldmodels.settings.planning import ByPlan
from worldmodels.settings.shared import InPrecision, OfAll, OnCluster, OnCores, OnDevice, Stage


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

    rounds: int = setting(1, most=100, free=True)
    """How often to go through all stages (the paper's iterative procedure). In each further round the C of the one
    before plays, and V, M and C learn on from all episodes so far: in RUN/round2, RUN/round3 and so on, each a run like
    any other. Only the last one is evaluated; of the others tells stage 4's final score."""
    round_episodes: int = setting(
        0,
        zero=True,
        most=1_000_000,
        free=True,
        only=Only("--rounds", lambda asked: asked.rounds > 1),
    )
    """Episodes that C plays for each further round, beside those of before. 0: --round-share of those that were played
    for the first."""
    keep_vision: bool = setting(False, free=True, only=Only("--rounds", lambda asked: asked.rounds > 1))
    """Further rounds see by the first one's V, which is not trained anew."""
    warm_start: bool = setting(True, free=True, only=Only("--rounds", lambda asked: asked.rounds > 1))
    """In further rounds V, M and C begin with the weights of the round before (an rssm with those of its HRSSM, as
    always); --no-warm-start: anew, as the paper."""
    from_best: bool = setting(
        True,
        free=True,
        only=Only("--warm-start", lambda asked: asked.warm_start and asked.rounds > 1),
    )
    """In further rounds C begins with the numbers of that C of the rounds before which did best in the episodes that it
    played; --no-from-best: with those of the last one, though it may have become worse."""
    round_share: float = setting(
        0.0,
        zero=True,
        most=1.0,
        free=True,
        only=Only("--rounds", lambda asked: asked.rounds > 1),
    )
    """What further rounds learn for: this share of the first one's steps, updates or generations. 0: a fifth of them,
    or all if they begin anew."""

    @property
    def share(self) -> float:
        """--round-share, where it is not said the usual one."""
        return self.round_share or (0.2 if self.warm_start else 1.0)


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
    max_steps: int = setting(0, zero=True, most=10_000_000)
    """Steps after which an episode is truncated. 0: as many as is usual in stage 1."""
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
