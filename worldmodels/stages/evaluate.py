"""How good is a trained controller?  worldmodels evaluate --run RUN --episodes 100"""

import dataclasses
from pathlib import Path

import torch
from tqdm import tqdm

from worldmodels import models
from worldmodels.acting.controllerspec import ControllerSpec, load_controller
from worldmodels.acting.policies import baselines
from worldmodels.core.device import device_of
from worldmodels.core.report import Summary, paths, played_anew, say, summarise, table
from worldmodels.dreams.calibration import blind_dreams
from worldmodels.envs.distract import check_test_clips
from worldmodels.evolution.evaluators import DreamEvaluator, RealEvaluator
from worldmodels.evolution.scoring import final_seeds, score_baselines
from worldmodels.models.base import WorldModel
from worldmodels.settings.config import EvaluateConfig
from worldmodels.settings.environments import refuse_untyped
from worldmodels.show import films, plots
from worldmodels.workers import make_workers


def evaluate(config: EvaluateConfig) -> dict[str, Summary]:
    """Scores the controller, and whatever it is to be compared with; prints the table and draws it."""
    torch.set_num_threads(max(1, config.workers))
    spec, params, about = load_controller(config.run)
    folder = Path(about["folder"])
    refuse_untyped(spec.env.name, folder)
    model = models.load(spec.run, device_of(config.device), spec.env.label, spec.precision)
    spec = dataclasses.replace(spec, env=spec.env.with_videos(config.distractor_videos).tested())
    check_test_clips(spec.env, models.load_module(spec.run / "vision", "vision")[1]["clips"])
    trouble = films.trouble(spec.env) if config.video else ""
    if trouble:
        say(f"note: there will be no film: {trouble}")
    scores: dict[str, Summary] = {}
    seeds, failures = final_seeds(config.seed, config.episodes), list[str]()
    with make_workers(config.workers, config.ray) as workers:
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
        with tqdm(total=config.episodes, unit="episode", desc=f"real {spec.env.name}") as bar:
            real = RealEvaluator(workers, spec, failures=failures).evaluate(params[None], seeds, bar.update).returns
        scores[f"our controller in the real {spec.env.name}"] = summarise(real)
    rows = [(name, score, f"± {score.ci:.1f}", score.n) for name, score in scores.items()]
    title = f"{folder.name} of {spec.env.label}, generation {about['generation']}, {len(params)} numbers"
    say(table(title, ("", "return, mean ± std", "95 % of the mean", "n"), rows), *played_anew(failures))
    chart, film = folder / "scores.png", folder / "reality.mp4"
    plots.bars(chart, {name: (score.mean, score.ci) for name, score in scores.items()}, title)
    say(paths(plot=chart))
    if config.video and not trouble:
        films.attempt(lambda: films.reality(film, model, spec, params, seeds[0]))
        say(paths(video=film))
    return scores


def _blind_dreams(
    model: WorldModel, spec: ControllerSpec, tau: float, sample_end: bool, config: EvaluateConfig
) -> dict[str, Summary]:
    """What the trivial policies would get in the dream: if that is more than they really get, it is too kind."""
    settings = (config.episodes, spec.max_steps, config.seed, tau, sample_end)
    return {
        f"{label}, in the dream": summarise(blind_dreams(model, policy, *settings)[0])
        for label, policy in baselines(spec.env.name).items()
    }
