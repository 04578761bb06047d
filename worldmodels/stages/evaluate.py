"""How good is a trained controller?  worldmodels evaluate --run RUN --episodes 100"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec, load_controller
from worldmodels.acting.policies import baselines
from worldmodels.core.device import prepare_device
from worldmodels.core.files import sweep
from worldmodels.core.report import Summary, paths, played_anew, say, summarise, table
from worldmodels.dreams import trust
from worldmodels.dreams.calibration import blind_dreams
from worldmodels.envs.distract import check_test_clips
from worldmodels.evolution.evaluators import DreamEvaluator, RealEvaluator
from worldmodels.evolution.scoring import final_seeds, score_baselines
from worldmodels.models.base import WorldModel
from worldmodels.settings.config import EvaluateConfig
from worldmodels.settings.environments import refuse_untyped
from worldmodels.show import films, plots
from worldmodels.workers import make_workers
from worldmodels.workers.local import Workers


def evaluate(config: EvaluateConfig) -> dict[str, Summary]:
    """Scores the controller, and whatever it is to be compared with; prints the table and draws it."""
    torch.set_num_threads(max(1, config.workers))
    spec, params, about = load_controller(config.run)
    folder = Path(about["folder"])
    refuse_untyped(spec.env.name, folder)
    model = models.load(spec.run, prepare_device(config.device), spec.env.label, spec.precision)
    spec = dataclasses.replace(spec, env=spec.env.with_videos(config.distractor_videos).tested())
    check_test_clips(spec.env, models.load_module(spec.run / "vision", "vision")[1]["clips"])
    if config.dream:
        say(*trust.doubts(spec.run / "memory", about["sample_end"]))
    sweep(folder)
    trouble = films.trouble(spec.env) if config.video else ""
    if trouble:
        say(f"note: there will be no film: {trouble}")
    failures = list[str]()
    with make_workers(config.workers, config.ray) as workers:
        scores = _scores(config, model, spec, params, about, workers, failures)
    title = f"{folder.name} of {spec.env.label}, generation {about['generation']}, {len(params)} numbers"
    _report(folder, title, scores, failures)
    if config.video and not trouble:
        film = folder / "reality.mp4"
        seed = final_seeds(config.seed, config.episodes)[0]
        films.attempt(lambda: films.reality(film, model, spec, params, seed))
        say(paths(video=film))
    return scores


def _scores(
    config: EvaluateConfig,
    model: WorldModel,
    spec: ControllerSpec,
    params: np.ndarray,
    about: dict[str, Any],
    workers: Workers,
    failures: list[str],
) -> dict[str, Summary]:
    """In the order of the table: the trivial policies, really and in the dream, then the controller."""
    scores: dict[str, Summary] = {}
    if config.baselines:
        scores |= score_baselines(spec.env, spec.max_steps, config.episodes, config.seed, workers, failures)
    if config.dream:
        tau = next(value for value in (config.tau, about["tau"], 1.0) if value is not None)
        if config.baselines:
            scores |= _blind_dreams(model, spec, tau, about["sample_end"], config)
        dream_seeds = final_seeds(config.seed, config.episodes, "dream")
        dream = DreamEvaluator(model, spec, tau, about["sample_end"], workers)
        dreamt = dream.evaluate(params[None], dream_seeds).returns
        scores[f"our controller in the dream, τ {tau:g}"] = summarise(dreamt)
    seeds = final_seeds(config.seed, config.episodes)
    with tqdm(total=config.episodes, unit="episode", desc=f"real {spec.env.name}") as bar:
        real = RealEvaluator(workers, spec, failures=failures).evaluate(params[None], seeds, bar.update)
    scores[f"our controller in the real {spec.env.name}"] = summarise(real.returns)
    return scores


def _report(folder: Path, title: str, scores: dict[str, Summary], failures: list[str]) -> None:
    rows = [(name, score, f"± {score.ci:.1f}", score.n) for name, score in scores.items()]
    say(table(title, ("", "return, mean ± std", "95 % of the mean", "n"), rows), *played_anew(failures))
    chart = folder / "scores.png"
    plots.bars(chart, {name: (score.mean, score.ci) for name, score in scores.items()}, title)
    say(paths(plot=chart))


def _blind_dreams(
    model: WorldModel,
    spec: ControllerSpec,
    tau: float,
    sample_end: bool,
    config: EvaluateConfig,
) -> dict[str, Summary]:
    """What the trivial policies get in the dream: if that is more than they really get, it is too kind."""
    settings = (config.episodes, spec.max_steps, config.seed, tau, sample_end)
    return {
        f"{label}, in the dream": summarise(blind_dreams(model, policy, *settings)[0])
        for label, policy in baselines(spec.env.name).items()
    }
