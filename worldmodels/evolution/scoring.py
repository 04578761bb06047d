"""What final scores are made on, and what they must be read against."""

from typing import Literal

from tqdm import tqdm

from worldmodels.acting.policies import baselines
from worldmodels.core.report import Summary, summarise
from worldmodels.core.seeding import integer
from worldmodels.evolution.evaluators import BaselineEvaluator
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers.local import Workers


def score_baselines(
    env: EnvSpec,
    max_steps: int,
    episodes: int,
    seed: int,
    workers: Workers,
    failures: list[str] | None = None,
) -> dict[str, Summary]:
    """The trivial policies on the final seeds: what any score must be read against.

    Adds to `failures` how the environment failed.
    """
    seeds = final_seeds(seed, episodes)
    policies = baselines(env.name)
    scores = {}
    with tqdm(total=episodes * len(policies), unit="episode", desc="baselines") as bar:
        for label, policy in policies.items():
            evaluator = BaselineEvaluator(workers, env, policy, max_steps, failures)
            scores[label] = summarise(evaluator.evaluate(seeds, bar.update).returns)
    return scores


def final_seeds(seed: int, episodes: int, world: Literal["real", "dream"] = "real") -> list[int]:
    """Seeds of final scores: met neither in training nor in the tests that choose the best mean."""
    return [integer(seed, "final" if world == "real" else "final dream", i) for i in range(episodes)]
