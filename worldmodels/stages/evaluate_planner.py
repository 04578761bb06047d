"""How good is planning, without any controller?  worldmodels evaluate --run RUN --plan icem"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, controllers_of, load_controller
from worldmodels.core import progress
from worldmodels.core.errors import UserError
from worldmodels.core.files import sweep
from worldmodels.core.report import Summary, paths, say
from worldmodels.dreams import trust
from worldmodels.dreams.planning_agent import PlanningAgent, seconds_a_decision
from worldmodels.envs.clips import check_test_clips
from worldmodels.evolution.planned import score_plans
from worldmodels.evolution.scoring import Played, final_seeds, score_baselines
from worldmodels.models.base import WorldModel
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.environments import refuse_untyped
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.presets import usual_steps
from worldmodels.settings.stages import ControllerConfig
from worldmodels.show import films, pages
from worldmodels.show.record import Record
from worldmodels.stages.scores import OUR_PLANNER, doubt, really, report
from worldmodels.workers import make_workers
from worldmodels.workers.local import Workers

HUNG = 20.0  # times as long as an episode should take at most: a task that takes longer counts as hung


class Place(NamedTuple):
    """Where is planned, and the controller that is to be compared with, if there is one."""

    run: Path
    env: EnvSpec  # with test backgrounds
    max_steps: int
    model: WorldModel
    controller: tuple[ControllerSpec, np.ndarray] | None


def evaluate_planner(config: EvaluateConfig) -> dict[str, Summary]:
    """Scores planning beside the trivial policies and the controller, if the run has one; prints and draws it.

    Raises:
        UserError: if there is no V or M, or its dreams pay nothing; if the run has several controllers and none is
            named.
    """
    torch.set_num_threads(1)  # as in a worker
    place = _place(config)
    folder = place.run / "planning" / config.plan
    say(*(f"warning: {told}" for told in trust.doubts(place.run / "memory", sample_end=True)))
    sweep(folder)
    trouble = films.trouble(place.env) if config.video else ""
    if trouble:
        say(f"note: there will be no film: {trouble}")
    failures = list[str]()
    name = f"{OUR_PLANNER} ({config.plan}) in the real {place.env.name}"
    longest = place.max_steps * seconds_a_decision(place.model, config.planning())
    with make_workers(config.workers, config.ray, 900.0 + HUNG * longest) as workers:
        played = _beside(config, place, workers, failures)
        ours, milliseconds = _planned(config, place, workers, failures)
    scores = {who: one.returns for who, one in played.items()} | {name: ours.returns}
    record = Record(folder / "evaluate.json", "evaluate", config)
    report(record, f"{config.plan} in {place.env.label}, nothing trained", scores, failures, {name: milliseconds})
    doubt(record, scores)
    say(paths(plot=folder / "scores.png"))
    if config.video and not trouble:
        _film(folder / "reality.mp4", config, place)
    pages.close(record, place.run)
    return scores


def _place(config: EvaluateConfig) -> Place:
    loaded: tuple[ControllerSpec, np.ndarray, Any] | None = None
    if (config.run / FILE).exists() or controllers_of(config.run):
        loaded = load_controller(config.run)
    run = loaded[0].run if loaded else config.run.resolve()
    about = models.load_module(run / "vision", "vision")[1]
    env = EnvSpec(**about["spec"])
    refuse_untyped(env.name, run)
    model = models.load(run, env=env.label)
    if model.rewardless:
        raise UserError(
            f"--plan {config.plan}: dreams of {run}/memory pay nothing (--reward none), so no plan is better than "
            "another; train M with --reward head or alive"
        )
    env = env.with_videos(config.distractor_videos).tested()
    check_test_clips(env, about["clips"])
    usually = usual_steps(ControllerConfig, env.name, "laptop", env.action_repeat)
    max_steps = loaded[0].max_steps if loaded else usually
    return Place(run, env, max_steps, model, (loaded[0], loaded[1]) if loaded else None)


def _beside(config: EvaluateConfig, place: Place, workers: Workers, failures: list[str]) -> dict[str, Played]:
    """What planning is compared with."""
    seeds = final_seeds(config.seed, config.episodes)
    played: dict[str, Played] = {}
    if config.baselines:
        played |= score_baselines(place.env, place.max_steps, seeds, workers, failures)
    if place.controller:
        spec, params = place.controller
        played |= really(dataclasses.replace(spec, env=place.env), params, seeds, workers, failures)
    return played


def _planned(config: EvaluateConfig, place: Place, workers: Workers, failures: list[str]) -> tuple[Played, float]:
    """Scores, and milliseconds a decision."""
    seeds = final_seeds(config.seed, config.episodes)
    asked = (place.env, place.run, config.planning(), place.max_steps, seeds)
    with progress.bar(total=len(seeds), unit="episode", desc=f"{config.plan}, real {place.env.name}") as bar:
        decided = score_plans(workers, *asked, bar.update, failures)
    return Played.of(decided.scores), decided.milliseconds


def _film(path: Path, config: EvaluateConfig, place: Place) -> None:
    agent = PlanningAgent(place.model, config.planning())
    seed = final_seeds(config.seed, config.episodes)[0]
    films.attempt(lambda: films.reality_of(path, agent, place.env, place.max_steps, seed))
    say(paths(video=path))
