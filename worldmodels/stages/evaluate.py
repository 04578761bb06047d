"""How good is a trained controller?  worldmodels evaluate --run RUN --episodes 100"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec, load_controller
from worldmodels.acting.policies import baselines
from worldmodels.core.device import prepare_device
from worldmodels.core.files import sweep
from worldmodels.core.report import Summary, paths, say
from worldmodels.dreams import trust
from worldmodels.dreams.calibration import blind_dreams
from worldmodels.envs.clips import check_test_clips
from worldmodels.evolution.evaluators import DreamEvaluator, Scores
from worldmodels.evolution.scoring import Played, final_seeds, score_baselines
from worldmodels.models.base import WorldModel
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.environments import refuse_untyped
from worldmodels.show import films, pages
from worldmodels.show.record import Number, Record
from worldmodels.stages.evaluate_planner import evaluate_planner
from worldmodels.stages.scores import OURS, doubt, really, report
from worldmodels.workers import make_workers
from worldmodels.workers.local import Workers

DREAMT = ", in the dream"


def evaluate(config: EvaluateConfig) -> dict[str, Summary]:
    """Scores the controller, or planning, and whatever it is to be compared with; prints the tables and draws the
    first."""
    if config.plan != "none":
        return evaluate_planner(config)
    torch.set_num_threads(max(1, config.workers))
    spec, params, about = load_controller(config.run)
    folder = Path(about["folder"])
    refuse_untyped(spec.env.name, folder)
    model = models.load(spec.run, prepare_device(config.device), spec.env.label, spec.precision)
    spec = dataclasses.replace(spec, env=spec.env.with_videos(config.distractor_videos).tested())
    check_test_clips(spec.env, models.load_module(spec.run / "vision", "vision")[1]["clips"])
    if config.dream and not config.baselines:  # else they are compared here
        say(*(f"warning: {doubt}" for doubt in trust.doubts(spec.run / "memory", about["sample_end"])))
    sweep(folder)
    trouble = films.trouble(spec.env) if config.video else ""
    if trouble:
        say(f"note: there will be no film: {trouble}")
    failures = list[str]()
    with make_workers(config.workers, config.ray) as workers:
        played = _played(config, model, spec, params, about, workers, failures)
    record = Record(folder / "evaluate.json", "evaluate", config)
    step = f"{'update' if spec.actor else 'generation'} {about['generation']}"
    title = f"{folder.name} of {spec.env.label}, {step}, {len(params)} numbers"
    scores = {name: one.returns for name, one in played.items()}
    report(record, title, scores, failures)
    _compare(record, played)
    doubt(record, scores)
    say(paths(plot=folder / "scores.png"))
    if config.video and not trouble:
        film = folder / "reality.mp4"
        seed = final_seeds(config.seed, config.episodes)[0]
        films.attempt(lambda: films.reality(film, model, spec, params, seed))
        say(paths(video=film))
    pages.close(record, spec.run)
    return scores


def _played(
    config: EvaluateConfig,
    model: WorldModel,
    spec: ControllerSpec,
    params: np.ndarray,
    about: dict[str, Any],
    workers: Workers,
    failures: list[str],
) -> dict[str, Played]:
    """In the order of the table: the trivial policies, really and in the dream, then the controller."""
    played: dict[str, Played] = {}
    seeds = final_seeds(config.seed, config.episodes)
    if config.baselines:
        played |= score_baselines(spec.env, spec.max_steps, seeds, workers, failures)
    if config.dream:
        tau = next(value for value in (config.tau, about["tau"], 1.0) if value is not None)
        if config.baselines:
            played |= _blind_dreams(model, spec, tau, about["sample_end"], config)
        dream_seeds = final_seeds(config.seed, config.episodes, "dream")
        dream = DreamEvaluator(model, spec, tau, about["sample_end"], workers)
        played[f"{OURS} in the dream, τ {tau:g}"] = Played.of(dream.evaluate(params[None], dream_seeds))
    return played | really(spec, params, seeds, workers, failures)


def _compare(record: Record, played: dict[str, Played]) -> None:
    """How long episodes last in the dream and really, if they were dreamt; warns where the two differ."""
    dreamt = {name.removesuffix(DREAMT): one for name, one in played.items() if name.endswith(DREAMT)}
    ours = [one for name, one in played.items() if name.startswith(OURS)]  # in the dream, and really
    dreamt |= {OURS: ours[0]} if len(ours) > 1 else {}
    real = played | {OURS: ours[-1]}
    times = {who: one.lengths.mean / real[who].lengths.mean for who, one in dreamt.items()}
    if not times:
        return
    rows = [(who, real[who].lengths, dreamt[who].lengths, Number(times[who], ".2f")) for who in times]
    title = "Dream against reality: steps that episodes last"
    record.table(title, ("", "really", "in the dream", "times as long"), rows)
    furthest = sorted(times, key=lambda who: abs(math.log(max(times[who], 1e-9))), reverse=True)
    told = (trust.odd_lengths(who, dreamt[who].lengths, real[who].lengths) for who in furthest)
    record.warn(next(filter(None, told), ""))


def _blind_dreams(
    model: WorldModel,
    spec: ControllerSpec,
    tau: float,
    sample_end: bool,
    config: EvaluateConfig,
) -> dict[str, Played]:
    """What the trivial policies get in the dream: if that is more than they really get, it is too kind."""
    settings = (config.episodes, spec.max_steps, config.seed, tau, sample_end)
    return {
        f"{label}{DREAMT}": Played.of(Scores(*blind_dreams(model, policy, *settings)))
        for label, policy in baselines(spec.env.name).items()
    }
