"""Stage 4: ask, evaluate, tell. Evolves C by CMA-ES in the real environment or in dreams."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import estimate, models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, load_controller, save_controller
from worldmodels.core import progress, schema, seeding
from worldmodels.core.allocator import keep_freed_memory
from worldmodels.core.device import prepare_device
from worldmodels.core.errors import UserError
from worldmodels.core.files import sweep
from worldmodels.core.report import Summary, paths, played_anew, say, summarise
from worldmodels.dreams import trust
from worldmodels.envs import check_playable
from worldmodels.envs.clips import check_test_clips, read_clips
from worldmodels.evolution.cma_es import CMAES, FULL_COVARIANCE_LIMIT
from worldmodels.evolution.evaluators import DreamEvaluator, Evaluator, RealEvaluator
from worldmodels.evolution.scoring import final_seeds, score_baselines
from worldmodels.settings.config import ControllerConfig
from worldmodels.settings.flags import flag
from worldmodels.show import films, pages, plots
from worldmodels.show.record import Record
from worldmodels.training.run import Run
from worldmodels.workers import make_workers
from worldmodels.workers.local import Workers


@dataclasses.dataclass(frozen=True)
class Evolved:
    """What came of one controller."""

    folder: Path
    trained: Summary  # held-out seeds of the world it evolved in
    real: Summary | None  # final real episodes; None if there are to be none


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
        check_playable(config.spec.tested(), "--final-episodes 0 evolves without it" if config.dream else "")
    trouble = films.trouble(config.spec.tested()) if config.final_episodes else ""
    if trouble:
        say(f"note: there will be no film of the real environment: {trouble}")
    doubts = trust.doubts(config.run / "memory", config.sample_end) if config.dream else []
    say(*(f"warning: {doubt}" for doubt in doubts))
    sweep(config.run / "controller")
    each = config.each()
    with make_workers(config.workers, config.ray, config.deadline) as workers:
        results = [evolve(one, workers, failures) for one in each]
        references = _references(config, workers, failures)
    record = Record(_kept_at(each), "controller", config)
    _report(record, config, results, references, failures)
    record.warn(*doubts)
    for one, result in zip(each, results, strict=True):
        _film(one, result.folder, reality=config.final_episodes > 0 and not trouble)
        _show(record, result.folder)
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


def _show(record: Record, folder: Path) -> None:
    """What there is to look at of one controller."""
    record.plot(folder / "fitness.png", f"Fitness of {folder.name} over generations")
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
    results: list[Evolved],
    references: dict[str, Summary],
    failures: list[str],
) -> None:
    """The table of scores: the trivial policies', then those of each controller."""
    scores = dict(references)
    for i, result in enumerate(results):
        if config.dream:
            where = f"evolved in dreams at τ {config.tau[i]:g}"
            scores[f"{where}: there"] = result.trained
        else:
            where = "evolved in the real environment"
        if result.real:
            scores[f"{where}: real"] = result.real
    rows = [(name, score, f"± {score.ci:.1f}", score.n) for name, score in scores.items()]
    title = f"C of {config.spec.label} after {config.generations} generations"
    record.table(title, ("", "return, mean ± std", "95 % of the mean", "n"), rows)
    record.note(*played_anew(failures))


def _compare_temperatures(
    record: Record,
    config: ControllerConfig,
    results: list[Evolved],
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


def evolve(config: ControllerConfig, workers: Workers, failures: list[str]) -> Evolved:
    """Evolves one controller, going on from its checkpoint; the result is that of a run in one go, to the bit.

    Adds to `failures` how the environment failed.
    """
    model = models.load(config.run, prepare_device(config.device), config.spec.label, config.precision)
    spec = ControllerSpec.of(config, model)
    numbers = spec.controller(model).num_params
    if config.dream and model.rewardless:
        raise UserError(
            f"{config.run}/memory was trained with --reward none, so its dreams pay nothing; train it anew",
        )
    config = dataclasses.replace(config, inputs=spec.inputs)  # as the run's record is to have it
    real = RealEvaluator(workers, spec, config.lockstep, failures)
    world: Evaluator = real
    if config.dream:
        world = DreamEvaluator(model, spec, config.tau[0], config.sample_end, workers, config.horizon)
    if config.horizon and not model.moments:
        raise UserError(f"--horizon: {config.run}/memory kept no moments of episodes; run stage 3 again with --fresh")
    if numbers > FULL_COVARIANCE_LIMIT:
        say(f"{numbers} numbers are too many for a full covariance matrix: CMA-ES keeps its diagonal only")
    start = _start(config, spec, numbers)
    search = CMAES(numbers, config.pop_size, config.sigma0, seeding.integer(config.seed, "cma"), start)
    run = Run(config.folder, config, "controller", model=models.fingerprint(config.run))  # after what may be refused
    try:
        chosen = _search(config, run, search, world, real)
    except UserError:
        run.abandon()
        raise
    unmet = dataclasses.replace(spec, env=spec.env.tested())  # with backgrounds that evolution never met
    final = RealEvaluator(workers, unmet, config.lockstep, failures)
    if config.dream:  # from their beginning to their end, as real ones
        world = DreamEvaluator(model, spec, config.tau[0], config.sample_end, workers)
    return _finish(config, unmet, world if config.dream else final, final, chosen)


def _start(config: ControllerConfig, spec: ControllerSpec, numbers: int) -> np.ndarray | None:
    """Where evolution begins, (D,); None for zero.

    Raises:
        UserError: if the controller of --start-from acts otherwise than this one is to.
    """
    if config.start_from == Path():
        return None
    other, params, _ = load_controller(config.start_from, "--start-from")
    for name in ("inputs", "hidden_size", "bias"):
        theirs = getattr(other, name)
        if theirs != getattr(spec, name):
            typed = " ".join(theirs) if name == "inputs" else str(theirs)
            raise UserError(f"--start-from {config.start_from} has {flag(name)} {typed}; give that, too")
    if len(params) != numbers:
        raise UserError(f"--start-from {config.start_from} has {len(params)} numbers, not {numbers}; leave it out")
    return params


def _search(
    config: ControllerConfig,
    run: Run,
    search: CMAES,
    world: Evaluator,
    real: Evaluator,
) -> dict[str, Any]:
    """All generations that are left; closes the run. Returns the mean that was the best of all tests."""
    # The last generation is always tested; but where more follow later, that test does not count for `best`.
    best: dict[str, Any] = {"mean": -np.inf, "params": search.mean, "generation": 0}
    chosen = best
    saved = run.rewind(state_of(len(search.mean)))
    if saved:
        search.load(saved["search"], run.checkpoint_path)
        best = saved["best"]
        chosen = saved["chosen"]
    with progress.bar(
        total=config.generations,
        initial=search.generation,
        unit="gen",
        desc=f"evolve {run.folder.name}",
    ) as bar:
        while search.generation < config.generations:
            line = _generation(config, search, world)
            regular = search.generation % config.test_every == 0
            chosen = best
            if regular or search.generation == config.generations:
                mean, shown = _score_mean(config, search, world, real)
                line |= shown
                chosen = max(best, mean, key=lambda one: one["mean"])
            best = chosen if regular else best
            run.log(search.generation, line)
            run.save({"step": search.generation, "search": search.state(), "best": best, "chosen": chosen})
            bar.update()
            bar.set_postfix(_postfix(line, chosen))
            if regular:
                _plot(config, run)
    run.close()
    _plot(config, run)
    return chosen


def _generation(config: ControllerConfig, search: CMAES, world: Evaluator) -> dict[str, float]:
    """Asks, evaluates, tells; what there is to say of it."""
    generation = search.generation
    began = time.monotonic()
    candidates = search.ask()
    scores = world.evaluate(candidates, _seeds(config, "train", config.episodes, generation))
    fitness = scores.returns.mean(1)
    search.tell(fitness)
    return _line(fitness, scores.lengths, search, time.monotonic() - began)


def _plot(config: ControllerConfig, run: Run) -> None:
    title = f"{config.spec.label}, {run.folder.name}"
    if config.horizon:
        title += f", dreams of {config.horizon} steps"
    plots.fitness(run.folder / "fitness.png", run.history(), title, apart=config.horizon > 0)


def state_of(num_params: int) -> schema.Check:
    """What the checkpoints of this stage hold; the search checks its own part."""
    mean = schema.fields(
        mean=schema.number(finite=False),  # its score; minus infinity before the first test
        params=schema.array("float64", num_params),
        generation=schema.whole(0),
    )
    return schema.fields(step=schema.whole(0), search=schema.anything, best=mean, chosen=mean)


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


def _seeds(config: ControllerConfig, purpose: str, count: int, generation: int = 0) -> list[int]:
    return [seeding.integer(config.seed, "episodes", purpose, generation, i) for i in range(count)]


def _score_mean(
    config: ControllerConfig,
    search: CMAES,
    world: Evaluator,
    real: Evaluator,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Tests the distribution's mean on held-out seeds: what `best` may become, and what people are shown."""
    mean = search.mean
    returns = world.evaluate(mean[None], _seeds(config, "test", config.test_episodes)).returns[0]
    summary = summarise(returns)
    line = {"test_mean": summary.mean, "test_std": summary.std, "test_ci": summary.ci}
    if config.dream and config.real_episodes and config.final_episodes:
        shown = summarise(real.evaluate(mean[None], _seeds(config, "real", config.real_episodes)).returns)
        line |= {"real_mean": shown.mean, "real_std": shown.std, "real_ci": shown.ci}
    return {"mean": summary.mean, "params": mean, "generation": search.generation}, line


def _finish(
    config: ControllerConfig,
    spec: ControllerSpec,
    world: Evaluator,
    real: Evaluator,
    best: dict[str, Any],
) -> Evolved:
    """Saves the best mean, and scores it on seeds that chose nothing."""
    folder = config.folder
    final = None
    if config.final_episodes:
        seeds = final_seeds(config.seed, config.final_episodes)
        with progress.bar(total=len(seeds), unit="episode", desc=f"final score of {folder.name}") as bar:
            final = summarise(real.evaluate(best["params"][None], seeds, bar.update).returns[0])
    if config.dream:
        dream_seeds = final_seeds(config.seed, config.test_episodes, "dream")
        trained = summarise(world.evaluate(best["params"][None], dream_seeds).returns)
    else:
        assert final is not None  # without a dream, something is played
        trained = final
    about = {
        "generation": best["generation"],
        "tau": config.tau[0] if config.dream else None,
        "sample_end": config.sample_end,
        "seed": config.seed,
        "trained": trained._asdict(),
    }
    if final:
        about["real"] = final._asdict()
    save_controller(folder / FILE, spec, best["params"], about)
    return Evolved(folder, trained, final)


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


def _line(fitness: np.ndarray, lengths: np.ndarray, search: CMAES, seconds: float) -> dict[str, float]:
    if not np.isfinite(fitness).all():
        raise UserError("a fitness is not finite: V or M holds weights that are not numbers; train them anew")
    return {
        "fitness_mean": float(fitness.mean()),
        "fitness_best": float(fitness.max()),
        "fitness_std": float(fitness.std()),
        "length": float(lengths.mean()),
        "sigma": search.sigma,
        "seconds": seconds,
        "steps_per_second": float(lengths.sum() / seconds),
    }


def _postfix(line: dict[str, float], best: dict[str, Any]) -> dict[str, str]:
    shown = {"fitness": f"{line['fitness_mean']:.0f}", "steps/s": f"{line['steps_per_second']:.0f}"}
    shown |= {"best test": f"{best['mean']:.0f}"} if best["generation"] else {}
    return shown | ({"real": f"{line['real_mean']:.0f}"} if "real_mean" in line else {})
