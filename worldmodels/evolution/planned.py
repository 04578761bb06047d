"""Scores of planning in the real environment: an episode for each seed, each a worker's task."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.core.device import resolved
from worldmodels.dreams.planning_agent import PlanningAgent
from worldmodels.envs.reused import reused
from worldmodels.evolution.evaluators import Scores
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.planning import ByPlan
from worldmodels.workers.local import Workers


class Decided(NamedTuple):
    """What came of planning."""

    scores: Scores  # float64 (1, E)
    milliseconds: float  # a decision, in mean


@dataclass(frozen=True)
class PlanTask:
    """A planned episode in the real environment."""

    env: EnvSpec
    run: Path  # as the worker finds it
    version: str  # the fingerprint of V and M
    precision: str
    settings: ByPlan
    max_steps: int
    seed: int


class PlannedEpisode(NamedTuple):
    """What came of a task."""

    outcome: Outcome
    decisions: int
    seconds: float  # that they took


def score_plans(
    workers: Workers,
    env: EnvSpec,
    run: Path,
    settings: ByPlan,
    max_steps: int,
    seeds: list[int],
    done: Callable[[int], Any],
    failures: list[str],
) -> Decided:
    """Plays the seeds in the real environment.

    No episode knows of another, so scores are the same for any number of workers; the time is what it takes on a core
    of its own, or on one that is shared.

    Args:
        workers: who plays.
        env: where.
        run: holds vision/ and memory/, whose dreams pay.
        settings: of the search.
        max_steps: an episode that lasts as long is truncated.
        seeds: of the episodes.
        done: called with the number of episodes that have ended since.
        failures: gets how the environment failed.
    """
    there = workers.send(run, models.FILES)
    asked = (env, there, models.fingerprint(run), resolved("auto", torch.device("cpu")), settings, max_steps)
    tasks = [PlanTask(*asked, seed) for seed in seeds]
    played: list[PlannedEpisode] = workers.map(play_planned, tasks, lambda _: done(1))
    outcomes = [one.outcome for one in played]
    failures += [told for outcome in outcomes for told in outcome.failures]
    table = np.array([(outcome.episode_return, outcome.length) for outcome in outcomes], np.float64)
    seconds = sum(one.seconds for one in played) / sum(one.decisions for one in played)
    return Decided(Scores(table[None, :, 0], table[None, :, 1]), 1000 * seconds)


def play_planned(task: PlanTask) -> PlannedEpisode:
    """A worker's task."""
    agent = PlanningAgent(models.cached(task.run, task.version, task.precision), task.settings)
    (outcome,) = rollout(reused(task.env, 1), agent, [task.seed], task.max_steps)
    return PlannedEpisode(outcome, agent.decisions, agent.seconds)
