"""What final scores are made on, and what they must be read against."""

from typing import Literal, NamedTuple

from worldmodels.acting.policies import baselines
from worldmodels.core import progress
from worldmodels.core.report import Summary, summarise
from worldmodels.core.seeding import integer
from worldmodels.evolution.evaluators import BaselineEvaluator, Scores
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers.local import Workers


class Played(NamedTuple):
    """What came of some episodes."""

    returns: Summary
    lengths: Summary  # in steps

    @classmethod
    def of(cls, scores: Scores) -> "Played":
        """Of one candidate's."""
        return cls(summarise(scores.returns), summarise(scores.lengths))


def score_baselines(
    env: EnvSpec,
    max_steps: int,
    seeds: list[int],
    workers: Workers,
    failures: list[str] | None = None,
) -> dict[str, Played]:
    """The trivial policies, an episode for each seed: what any score on those must be read against.

    Adds to `failures` how the environment failed.
    """
    policies = baselines(env.name)
    scores = {}
    with progress.bar(total=len(seeds) * len(policies), unit="episode", desc="baselines") as bar:
        for label, policy in policies.items():
            evaluator = BaselineEvaluator(workers, env, policy, max_steps, failures)
            scores[label] = Played.of(evaluator.evaluate(seeds, bar.update))
    return scores


def episode_seeds(seed: int, purpose: str, count: int, generation: int = 0) -> list[int]:
    """Seeds of episodes that train ("train", others in each generation), or test ("test", "real")."""
    return [integer(seed, "episodes", purpose, generation, i) for i in range(count)]


def final_seeds(seed: int, episodes: int, world: Literal["real", "dream"] = "real") -> list[int]:
    """Seeds of final scores: met neither in training nor in the tests that choose the best mean."""
    return [integer(seed, "final" if world == "real" else "final dream", i) for i in range(episodes)]
