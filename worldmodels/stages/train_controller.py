"""Stage 4: C learns, in the real environment or in dreams: evolved by CMA-ES, or trained beside a critic."""

import dataclasses
from pathlib import Path

import torch

from worldmodels import estimate, models
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core.allocator import keep_freed_memory
from worldmodels.core.device import prepare_device
from worldmodels.core.files import sweep
from worldmodels.core.report import Summary, paths, played_anew, say
from worldmodels.dreams import trust
from worldmodels.envs import check_playable
from worldmodels.envs.clips import check_test_clips, read_clips
from worldmodels.evolution.scoring import final_seeds, score_baselines
from worldmodels.settings.stages import ControllerConfig
from worldmodels.show import films, pages, plots
from worldmodels.show.record import Record
from worldmodels.stages.learning import FITNESS, MANNERS, Learnt, learn
from worldmodels.stages.scores import REAL, THERE
from worldmodels.workers import make_workers
from worldmodels.workers.local import Workers


def train_controller(config: ControllerConfig) -> None:
    """Stage 4: one controller, or with several --tau one for each, and the comparison."""
    if config.dry_run:
        estimate.evolution(config)
        return
    config = with_backgrounds(config)
    torch.set_num_threads(max(1, config.workers))
    keep_freed_memory()
    failures = list[str]()
    if config.final_episodes and not config.ray:  # now, and not after hours; on a cluster, others make it
        check_playable(config.spec.tested(), "--final-episodes 0 learns without it" if config.dream else "")
    trouble = films.trouble(config.spec.tested()) if config.final_episodes else ""
    if trouble:
        say(f"note: there will be no film of the real environment: {trouble}")
    doubts = trust.doubts(config.run / "memory", config.sample_end) if config.dream else []
    say(*(f"warning: {doubt}" for doubt in doubts))
    sweep(config.run / "controller")
    each = config.each()
    with make_workers(config.workers, config.ray, config.deadline) as workers:
        results = [learn(one, workers, failures) for one in each]
        references = _references(config, workers, failures)
    record = Record(_kept_at(each), "controller", config)
    _report(record, config, results, references, failures)
    record.warn(*doubts)
    for one, result in zip(each, results, strict=True):
        _film(one, result.folder, reality=config.final_episodes > 0 and not trouble)
        _show(record, result.folder, config.learner)
    for result in results:
        shown = [path for path in sorted(result.folder.iterdir()) if path.suffix in (".png", ".mp4")]
        say(paths(**{path.stem: path for path in shown}))
    if len(results) > 1:
        _compare_temperatures(record, config, results, references)
    pages.close(record, config.run, config.data)


def _kept_at(each: list[ControllerConfig]) -> Path:
    """The file that keeps what is said: of one controller or of a sweep."""
    return _sweep(each[0], ".json") if len(each) > 1 else each[0].folder / "controller.json"


def _sweep(config: ControllerConfig, suffix: str) -> Path:
    """A file about controllers of several temperatures."""
    return config.run / "controller" / f"sweep{suffix}"


def _show(record: Record, folder: Path, learner: str) -> None:
    """What there is to look at of one controller."""
    record.plot(folder / FITNESS, MANNERS[learner].caption.format(folder.name))
    record.show(folder / "dream.mp4", f"{folder.name} in its dream")
    record.show(folder / "reality.mp4", f"{folder.name} in the real environment, and what it sees")


def _references(config: ControllerConfig, workers: Workers, failures: list[str]) -> dict[str, Summary]:
    """The trivial policies' scores, if anything is to be played."""
    if not config.final_episodes:
        return {}
    seeds = final_seeds(config.seed, config.final_episodes)
    played = score_baselines(config.spec.tested(), config.max_steps, seeds, workers, failures)
    return {name: one.returns for name, one in played.items()}


def _report(
    record: Record,
    config: ControllerConfig,
    results: list[Learnt],
    references: dict[str, Summary],
    failures: list[str],
) -> None:
    """The table of scores: the trivial policies', then those of each controller."""
    scores = dict(references)
    did = MANNERS[config.learner].did
    for i, result in enumerate(results):
        if config.dream:
            where = f"{did} in dreams at τ {config.tau[i]:g}"
            scores[f"{where}{THERE}"] = result.trained
        else:
            where = f"{did} in the real environment"
        if result.real:
            scores[f"{where}{REAL}"] = result.real
    rows = [(name, score, f"± {score.ci:.1f}", score.n) for name, score in scores.items()]
    unit, count = config.length
    title = f"C of {config.spec.label} after {count} {unit}"
    record.table(title, ("", "return, mean ± std", "95 % of the mean", "n"), rows)
    record.note(*played_anew(failures))


def _compare_temperatures(
    record: Record,
    config: ControllerConfig,
    results: list[Learnt],
    references: dict[str, Summary],
) -> None:
    """Draws the scores of controllers that were evolved in dreams of several temperatures."""
    lines = []
    for tau, result in zip(config.tau, results, strict=True):
        line = {"tau": tau}
        for name, score in (("dream", result.trained), ("real", result.real)):
            if score is None:
                continue
            line |= {f"{name}_mean": score.mean, f"{name}_std": score.std, f"{name}_ci": score.ci}
        lines.append(line)
    path = _sweep(config, ".png")
    plots.sweep(path, lines, {name: score.mean for name, score in references.items()})
    record.plot(path, "Scores over the temperature of the dreams")
    say(paths(sweep=path))


def with_backgrounds(config: ControllerConfig) -> ControllerConfig:
    """The same, with the folder of V's clips if none is given; opens them now, before hours are spent.

    Raises:
        UserError: if clips are missing, or tests would show what V was trained with.
    """
    if not config.spec.shows_clips:
        return config
    _, about = models.load_module(config.run / "vision", "vision")
    if config.distractor_videos == Path():
        config = dataclasses.replace(config, distractor_videos=Path(about["spec"]["videos"]))
    check_test_clips(config.spec, about["clips"])
    for spec in (config.spec, config.spec.tested()):
        read_clips(spec)
    return config


def _film(config: ControllerConfig, folder: Path, reality: bool) -> None:
    """Films the controller in `folder`, in the real environment too if that can be filmed."""
    spec, params, _ = load_controller(folder)
    model = models.load(config.run, prepare_device(config.device), config.spec.label, config.precision)
    seed = final_seeds(config.seed, 1)[0]
    if reality:
        real = folder / "reality.mp4"
        films.attempt(lambda: films.reality(real, model, spec, params, seed))
    if config.dream:
        tau = config.tau[0]
        dream = folder / "dream.mp4"
        films.attempt(lambda: films.dream(dream, model, spec, params, tau, seed, config.sample_end))
