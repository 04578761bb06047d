"""How C learns in stage 4: steps of a learner, tests between them, and the best of all tests in the end."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldmodels import models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, save_controller
from worldmodels.core import progress, schema
from worldmodels.core.device import prepare_device
from worldmodels.core.errors import UserError
from worldmodels.core.report import Summary, summarise
from worldmodels.evolution.evaluators import DreamEvaluator, Evaluator, RealEvaluator
from worldmodels.evolution.learner import Learner
from worldmodels.evolution.scoring import episode_seeds, final_seeds
from worldmodels.models.worlds import check_worlds
from worldmodels.settings.stages import ControllerConfig
from worldmodels.show import plots
from worldmodels.stages.learners import new_learner
from worldmodels.stages.starting import start
from worldmodels.training.run import Run, goes_on
from worldmodels.training.train import patient
from worldmodels.workers.local import Workers

FITNESS = "fitness.png"


class Manner(NamedTuple):
    """How a learner is told of."""

    does: str  # to C
    did: str
    draw: Callable[..., None]  # the plot of its metrics
    caption: str


OF_ACTORS = Manner(
    "train",
    "trained",
    plots.imagined,
    "What {} expects, and its tests",
)
MANNERS = {
    "cma-es": Manner(
        "evolve",
        "evolved",
        plots.fitness,
        "Fitness of {} over generations",
    ),
    "ppo": OF_ACTORS,
    "actor-critic": OF_ACTORS,
}


@dataclasses.dataclass(frozen=True)
class Learnt:
    """What came of one controller."""

    folder: Path
    trained: Summary  # held-out seeds of the world it learnt in
    real: Summary | None  # final real episodes; None if there are to be none


def learn(config: ControllerConfig, workers: Workers, failures: list[str]) -> Learnt:
    """Lets one controller learn, going on from its checkpoint; the result is that of a run in one go, to the bit.

    Adds to `failures` how the environment failed.
    """
    model = models.load(config.run, prepare_device(config.device), config.spec.label, config.precision)
    spec = ControllerSpec.of(config, model)
    if config.dream and model.rewardless:
        raise UserError(
            f"{config.run}/memory was trained with --reward none, so its dreams pay nothing; train it anew",
        )
    config = dataclasses.replace(config, inputs=spec.inputs)  # as the run's record is to have it
    real = RealEvaluator(workers, spec, config.lockstep, failures)
    world: Evaluator = real
    tried: Evaluator = real
    if config.patience:
        tried = RealEvaluator(workers, spec, config.lockstep, failures, config.patience)
    if config.dream:
        check_worlds(model, config.dream_dropout)
        kind = (config.tau[0], config.sample_end, workers, config.short_dreams, config.dream_dropout)
        world = tried = DreamEvaluator(model, spec, *kind)
    if config.short_dreams and not model.moments:
        raise UserError(f"--horizon: {config.run}/memory kept no moments of episodes; run stage 3 again with --fresh")
    learner = new_learner(config, spec, model, tried, workers, failures)
    if config.start_from != Path() and not goes_on(config.folder, config):
        start(config, spec, learner)
    run = Run(config.folder, config, "controller", model=models.fingerprint(config.run))  # after what may be refused
    try:
        chosen = _steps(config, run, learner, world, real)
    except UserError:
        run.abandon()
        raise
    unmet = dataclasses.replace(spec, env=spec.env.tested())  # with backgrounds that it never met
    final = RealEvaluator(workers, unmet, config.lockstep, failures)
    if config.dream:  # from their beginning to their end, as real ones
        world = DreamEvaluator(model, spec, config.tau[0], config.sample_end, workers)
    return _finish(config, unmet, world if config.dream else final, final, chosen)


def _steps(
    config: ControllerConfig,
    run: Run,
    learner: Learner,
    world: Evaluator,
    real: Evaluator,
) -> dict[str, Any]:
    """All steps that are left; closes the run. Returns what was the best of all tests.

    Raises:
        KeyboardInterrupt: at once, or when the step in hand is saved, as the learner has it.
    """
    # The last step is always followed by a test; but where more follow later, that one does not count for `best`.
    best: dict[str, Any] = {"mean": -np.inf, "params": learner.params, "generation": 0}
    chosen = best
    saved = run.rewind(state_of(len(learner.params), learner.params.dtype))
    if saved:
        learner.load(saved["search"], run.checkpoint_path)
        best = saved["best"]
        chosen = saved["chosen"]
    waiting = patient() if learner.finishes else contextlib.nullcontext(lambda: False)
    name = f"{MANNERS[config.learner].does} {run.folder.name}"
    with (
        waiting as interrupted,
        progress.bar(total=learner.total, initial=learner.step, unit=learner.unit, desc=name) as bar,
    ):
        while learner.step < learner.total:
            line = learner.advance()
            regular = learner.step % config.test_every == 0
            tested = regular or learner.step == learner.total
            chosen = best
            if tested:
                found, shown = _test(config, learner, world, real)
                line |= shown
                chosen = max(best, found, key=lambda one: one["mean"])
            best = chosen if regular else best
            if tested or learner.step % learner.log_every == 0:
                run.log(learner.step, line)
                bar.set_postfix(_postfix(learner.brief(line), line, chosen))
            stop = interrupted()
            if tested or stop or learner.step % learner.save_every == 0:
                run.save({"step": learner.step, "search": learner.state(), "best": best, "chosen": chosen})
            bar.update()
            if regular:
                _plot(config, run)
            if stop:
                raise KeyboardInterrupt
    run.close()
    _plot(config, run)
    return chosen


def _plot(config: ControllerConfig, run: Run) -> None:
    title = f"{config.spec.label}, {run.folder.name}"
    if config.short_dreams:
        title += f", dreams of {config.short_dreams} steps"
    MANNERS[config.learner].draw(run.folder / FITNESS, run.history(), title, apart=config.short_dreams > 0)


def state_of(num_params: int, dtype: np.dtype[Any] | str = "float64") -> schema.Check:
    """What the checkpoints of this stage hold; the learner checks its own part."""
    mean = schema.fields(
        mean=schema.number(finite=False),  # its score; minus infinity before the first test
        params=schema.array(str(dtype), num_params),
        generation=schema.whole(0),
    )
    return schema.fields(step=schema.whole(0), search=schema.anything, best=mean, chosen=mean)


def _test(
    config: ControllerConfig,
    learner: Learner,
    world: Evaluator,
    real: Evaluator,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Tests C as it is now on held-out seeds: what `best` may become, and what people are shown."""
    params = learner.params
    seeds = episode_seeds(config.seed, "test", config.test_episodes)
    returns = world.evaluate(params[None], seeds).returns[0]
    summary = summarise(returns)
    line = {"test_mean": summary.mean, "test_std": summary.std, "test_ci": summary.ci}
    if config.dream and config.real_episodes and config.final_episodes:
        seeds = episode_seeds(config.seed, "real", config.real_episodes)
        shown = summarise(real.evaluate(params[None], seeds).returns)
        line |= {"real_mean": shown.mean, "real_std": shown.std, "real_ci": shown.ci}
    return {"mean": summary.mean, "params": params, "generation": learner.step}, line


def _finish(
    config: ControllerConfig,
    spec: ControllerSpec,
    world: Evaluator,
    real: Evaluator,
    best: dict[str, Any],
) -> Learnt:
    """Saves the best, and scores it on seeds that chose nothing."""
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
    return Learnt(folder, trained, final)


def _postfix(brief: dict[str, str], line: dict[str, float], best: dict[str, Any]) -> dict[str, str]:
    shown = brief | ({"best test": f"{best['mean']:.0f}"} if best["generation"] else {})
    return shown | ({"real": f"{line['real_mean']:.0f}"} if "real_mean" in line else {})
