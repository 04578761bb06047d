import numpy as np
import pytest

from worldmodels.acting.policies import POLICIES, baselines, paper_policy
from worldmodels.core.seeding import rng
from worldmodels.settings.environments import records


@pytest.mark.parametrize("name", list(POLICIES))
def test_actions_are_valid_and_follow_from_the_seed(name: str) -> None:
    first, second = (POLICIES[name](rng(1, "p"), 3) for _ in range(2))
    for step in range(300):
        action = first(step)
        assert action.shape == (3,) and action.dtype == np.float32 and (np.abs(action) <= 1).all()
        assert np.array_equal(action, second(step))


def test_held_actions_last_from_one_to_ten_steps_or_to_the_next_multiple() -> None:
    policy = POLICIES["held"](rng(0, "p"), 1)
    actions = np.array([policy(step)[0] for step in range(20_000)])
    changes = np.flatnonzero(np.diff(actions) != 0) + 1
    gaps = np.diff(changes)
    assert gaps.min() == 1 and 8 <= gaps.max() <= 10
    assert abs(actions.mean()) < 0.05 and abs(actions.var() - 1 / 3) < 0.03


def test_varied_holds_from_a_moment_to_long_enough_to_lean_on_a_wall() -> None:
    longest = []
    for episode in range(200):
        policy = POLICIES["varied"](rng(episode, "p"), 1)
        changes = np.flatnonzero(np.diff([policy(step)[0] for step in range(2000)]) != 0)
        longest.append(np.diff(changes).max())
    assert min(longest) <= 15 and max(longest) > 150 and max(longest) <= 200


def test_spicy_is_mostly_gentle_with_a_few_hard_episodes() -> None:
    means = np.array([[POLICIES["spicy"](rng(i, "p"), 3)(s) for s in range(30)] for i in range(300)]).mean(1)
    assert np.median(np.abs(means)) < 0.2 and np.quantile(np.abs(means), 0.98) > 0.8


def test_brownian_has_the_variance_it_says() -> None:
    policy = POLICIES["brownian"](rng(0, "p"), 200)
    walk = np.stack([policy(s) for s in range(40)])
    inside = (np.abs(walk[:-1]) < 0.6) & (np.abs(walk[1:]) < 1)
    assert abs(np.diff(walk, axis=0)[inside].var() - 1 / 50) < 0.003


def test_every_environment_has_a_paper_policy_and_baselines_that_exist() -> None:
    assert paper_policy("doom") == "held" and paper_policy("carracing") == paper_policy("any") == "spicy"
    for env in [*(record.name for record in records()), "any"]:
        assert set(baselines(env).values()) <= set(POLICIES) and len(baselines(env)) >= 2
