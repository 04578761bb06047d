"""Planning, in worlds whose best plans are known, and in a tiny world that was learnt."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import PAIRS, World
from worldmodels import models
from worldmodels.core.seeding import Noise, rng
from worldmodels.dreams.planning import Planner, Plans, coloured, shifted
from worldmodels.models.base import Dreamed, State
from worldmodels.models.codes import normal
from worldmodels.settings.planning import ByPlan

SEARCHES = ("cem", "icem", "mppi")
MANY = {"plan_candidates": 256, "plan_iterations": 12, "plan_colour": 0.0, "plan_tail": 0.0}


class Linear:
    """A point that is pushed: x' = x + a + noise, which pays -(x' - goal)^2 - cost a^2 and never ends."""

    action_size = 1
    noise_size = 1
    members = 1
    rewardless = False
    end_shift = 0.0

    def __init__(self, std: float = 0.0, goal: float = 1.0, cost: float = 1.0) -> None:
        self.std = std
        self.goal = goal
        self.cost = cost
        self.starts = torch.zeros(1, 1)

    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        x = state["x"] + action + self.std * tau**0.5 * normal(noise)
        reward = -((x - self.goal) ** 2 + self.cost * action**2)[:, 0]
        return Dreamed({"x": x}, reward, torch.zeros(len(x)), torch.zeros(len(x), dtype=torch.bool))

    def best(self, x: float, horizon: int) -> np.ndarray:
        """The best plan, float64 (H,): x_t is x and the sum of the actions until then, so this is least squares."""
        sums = np.tril(np.ones((horizon, horizon)))
        return np.linalg.solve(sums.T @ sums + self.cost * np.eye(horizon), sums.T @ np.full(horizon, self.goal - x))


class Mortal(Linear):
    """Pays 1 a step; one dies with the chance |a| / 2."""

    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        end = action.abs()[:, 0] / 2
        return Dreamed(state, torch.ones(len(end)), end, end > 0.5)


def at(*places: float) -> State:
    return {"x": torch.tensor(places)[:, None]}


def luck(*seeds: int) -> list[np.random.Generator]:
    return [rng(seed, "plan") for seed in seeds]


def planner(world: Any, plan: str = "icem", **changes: Any) -> Planner:
    return Planner(world, replace(ByPlan(plan=plan), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", SEARCHES)
def test_the_best_plan_of_a_linear_world_is_found(plan: str) -> None:
    world = Linear()
    # the spread of mppi stays as it is, so its mean is blurred less where few count
    changes = MANY | {"plan_horizon": 5} | ({"plan_spread": 0.3, "plan_softness": 0.05} if plan == "mppi" else {})
    searcher = planner(world, plan, **changes)
    for x in (0.5, 1.0, 1.6):
        action, plans = searcher.decide(at(x), searcher.idle(1), luck(3))
        best = world.best(x, 5)
        assert np.abs(best).max() < 1  # else clipping would find another
        found = plans.kept[0, 0, :, 0] if plan == "icem" else plans.mean[0, :, 0]
        np.testing.assert_allclose(found, best, atol=0.06)
        assert action.shape == (1, 1) and float(action) == float(found[0])


@pytest.mark.parametrize("plan", SEARCHES)
def test_decisions_lead_to_the_goal_though_each_is_made_from_few_candidates(plan: str) -> None:
    """The plan is carried on from step to step, and with it what was found."""
    world = Linear(std=0.02, cost=0.1)
    searcher = planner(world, plan, plan_horizon=6, plan_candidates=16, plan_iterations=1, plan_spread=0.3)
    state = at(-1.5)
    plans = searcher.idle(1)
    noise = Noise([0], 1)
    for step in range(25):
        action, plans = searcher.decide(state, plans, luck(step))
        state = world.imagine(state, action, noise.draw()).state
    assert abs(float(state["x"]) - 1) < 0.2


def test_a_plan_is_worth_what_it_is_expected_to_be_paid_while_it_lives() -> None:
    searcher = planner(Mortal(), plan_tail=10.0)
    actions = torch.tensor([0.0, 0.1, 1.0])
    plans = actions[None, :, None, None].expand(1, -1, 7, 1)
    values = searcher.values(at(0.0), plans, torch.full((1, 1, 7, 2), 0.5))[0].double()
    stays = 1 - actions.double() / 2
    expected = sum(stays**t for t in range(7)) + 10 * stays**7
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)
    unpaid = planner(Mortal(), plan_tail=0.0).values(at(0.0), plans, torch.full((1, 1, 7, 2), 0.5))[0]
    assert float(unpaid[0]) == 7


def test_ends_are_shifted_as_dreams_are() -> None:
    world = Mortal()
    world.end_shift = float(np.log(3))  # odds three times as high
    values = planner(world, plan_tail=0.0).values(at(0.0), torch.ones(1, 1, 2, 1), torch.full((1, 1, 2, 2), 0.5))
    assert float(values) == pytest.approx(1 + 1 / 4)


def test_where_nothing_ends_the_tail_changes_no_order() -> None:
    noise = torch.rand(1, 3, 5, 2, generator=torch.Generator().manual_seed(0)).clamp_min(1e-6)
    plans = torch.linspace(-1, 1, 20)[None, :, None, None].expand(1, -1, 5, 1)
    values = [planner(Linear(0.3), plan_tail=tail).values(at(0.0), plans, noise) for tail in (0.0, 50.0)]
    torch.testing.assert_close(values[1], values[0] * 11)


def test_the_same_luck_for_all_candidates_tells_them_apart() -> None:
    """The difference of two plans varies far less from luck to luck than with luck of their own."""
    searcher = planner(Linear(std=0.5))
    plans = torch.stack([torch.full((8, 1), 0.1), torch.full((8, 1), 0.12)])
    draws = torch.rand(150, 2, 8, 2, generator=torch.Generator().manual_seed(0)).clamp_min(1e-6)
    state = at(*[0.0] * 150)
    common = searcher.values(state, plans.expand(150, -1, -1, -1), draws[:, :1])
    own = torch.stack(
        [searcher.values(state, plans[i].expand(150, 1, -1, -1), draws[:, i : i + 1])[:, 0] for i in (0, 1)], 1
    )
    alike = (common[:, 0] - common[:, 1]).std()
    apart = (own[:, 0] - own[:, 1]).std()
    assert alike < apart / 10
    torch.testing.assert_close(common[:, 0], own[:, 0])


def test_expected_ends_vary_less_than_drawn_ones_and_have_the_same_mean() -> None:
    class Chancy(Mortal):
        """How deadly a step is depends on luck, as on what is dreamt."""

        def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
            end = 0.1 * noise[:, 0]
            return Dreamed(state, torch.ones(len(end)), end, end > 0.5)

    lucks, steps = 1000, 10
    noise = torch.rand(lucks, 1, steps, 2, generator=torch.Generator().manual_seed(0)).clamp_min(1e-6)
    values = planner(Chancy(), plan_tail=0.0).values(at(*[0.0] * lucks), torch.zeros(lucks, 1, steps, 1), noise)[:, 0]
    died = noise[:, 0, :, 1] < 0.1 * noise[:, 0, :, 0]
    drawn = torch.where(died.any(1), died.int().argmax(1) + 1, steps).double()
    assert abs(float(values.mean() - drawn.mean())) < 4 * float(drawn.std()) / lucks**0.5
    assert values.std() < drawn.std() / 4


def test_what_was_planned_is_carried_on_a_step_later() -> None:
    plan = torch.arange(6.0).view(1, 3, 2)
    assert shifted(plan).tolist() == [[[2, 3], [4, 5], [4, 5]]]
    searcher = planner(Linear(), plan_candidates=4, plan_iterations=1, plan_horizon=3, plan_spread=1e-6)
    best = torch.tensor([0.4, 0.3, 0.2])[None, :, None]
    before = Plans(best, best.unsqueeze(1).expand(-1, searcher.idle(1).kept.shape[1], -1, -1))
    action, plans = searcher.decide(at(0.0), before, luck(0))
    expected = torch.tensor([0.3, 0.2, 0.2])[None, :, None]
    torch.testing.assert_close(plans.mean, expected, atol=1e-5, rtol=0)
    assert float(action) == pytest.approx(0.3, abs=1e-5)


@pytest.mark.parametrize("plan", SEARCHES)
def test_a_decision_that_goes_on_from_the_last_is_better_than_one_from_nothing(plan: str) -> None:
    world = Linear(cost=0.05)
    searcher = planner(world, plan, plan_horizon=8, plan_candidates=24, plan_iterations=1, plan_spread=0.3)

    def worth(plans: Plans) -> float:
        return float(searcher.values(at(0.0), plans.mean[:, None], torch.full((1, 1, 8, 2), 0.5)))

    warm = []
    cold = []
    for seed in range(20):
        plans = searcher.idle(1)
        for again in range(6):  # the same state, so that what is carried on is all that differs
            _, plans = searcher.decide(at(0.0), plans, luck(100 * seed + again))
        warm.append(worth(plans))
        cold.append(worth(searcher.decide(at(0.0), searcher.idle(1), luck(seed))[1]))
    assert np.mean(warm) > np.mean(cold) and np.mean(np.array(warm) > cold) > 0.7


def test_coloured_noise_has_variance_one_and_holds_to_a_direction() -> None:
    white = torch.randn(20_000, 40, 1, generator=torch.Generator().manual_seed(0))
    held = {}
    for colour in (0.0, 1.0, 3.0):
        noise = coloured(white, colour)[..., 0]
        assert noise.shape == (20_000, 20)
        torch.testing.assert_close(noise.std(0), torch.ones(20), atol=0.03, rtol=0)
        held[colour] = float((noise[:, 0] * noise[:, 1]).mean())
        # over twice the horizon the covariance is the filter's own
        power = np.maximum(np.fft.rfftfreq(40), 1 / 40) ** -colour
        expected = np.fft.irfft(power, 40)
        assert held[colour] == pytest.approx(expected[1] / expected[0], abs=0.03)
    assert abs(held[0.0]) < 0.03 < 0.3 < held[1.0] < held[3.0]
    torch.testing.assert_close(coloured(white, 0.0), white[:, :20])
    assert coloured(torch.ones(3, 2, 1), 2.0).shape == (3, 1, 1)  # a horizon of one step


@pytest.mark.parametrize("plan", SEARCHES)
def test_what_a_row_decides_depends_on_no_row_beside_it(plan: str) -> None:
    searcher = planner(Linear(0.2), plan, plan_rollouts=2, plan_iterations=2)
    both, plans = searcher.decide(at(0.3, -0.4), searcher.idle(2), luck(1, 2))
    for row, (x, seed) in enumerate([(0.3, 1), (-0.4, 2)]):
        alone, own = searcher.decide(at(x), searcher.idle(1), luck(seed))
        assert torch.equal(alone[0], both[row]) and torch.equal(own.mean[0], plans.mean[row])
    _, other = searcher.decide(at(0.3), searcher.idle(1), luck(5))
    assert not torch.equal(other.mean[0], plans.mean[0])


def test_icem_tries_fewer_each_time_but_no_fewer_than_twice_its_elites() -> None:
    searcher = planner(Linear(), plan_candidates=40, plan_elites=0.25)
    assert [searcher._count(time) for time in range(5)] == [40, 32, 26, 20, 20]
    assert [planner(Linear(), "cem", plan_candidates=40)._count(time) for time in (0, 4)] == [40, 40]


@pytest.mark.parametrize("plan", SEARCHES)
@pytest.mark.parametrize("settings", [{"plan_candidates": 4, "plan_horizon": 1}, {"plan_elites": 1.0}])
def test_the_smallest_and_the_widest_searches_work(plan: str, settings: dict[str, Any]) -> None:
    searcher = planner(Linear(), plan, plan_iterations=3, **settings)
    action, _ = searcher.decide(at(0.0), searcher.idle(1), luck(0))
    assert action.shape == (1, 1) and bool(action.isfinite().all())


def test_a_search_that_is_none_and_dreams_that_pay_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="'none' names no search; give one of cem, icem, mppi"):
        Planner(Linear(), ByPlan())  # type: ignore[arg-type]
    unpaid = SimpleNamespace(rewardless=True)
    with pytest.raises(ValueError, match="pay nothing"):
        Planner(unpaid, ByPlan(plan="cem"))  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", PAIRS)
def test_any_v_with_any_m_can_be_planned_in(pairs: dict[tuple[str, str], World], pair: tuple[str, str]) -> None:
    model = models.load(pairs[pair].run, precision="fp32")
    searcher = planner(model, "icem", plan_candidates=16, plan_horizon=5, plan_rollouts=2)
    asked: list[tuple[Tensor, Tensor]] = []
    values = searcher.values

    def listening(state: State, plans: Tensor, noise: Tensor) -> Tensor:
        asked.append((plans, values(state, plans, noise)))
        return asked[-1][1]

    searcher.values = listening  # type: ignore[method-assign]
    state = model.observe(
        model.initial(2),
        torch.zeros(2, 1),
        model.starts[:1].expand(2, -1),
        torch.ones(2, 1),
        torch.full((2, model.noise_size), 0.4),
    )
    action, _ = searcher.decide(state, searcher.idle(2), luck(1, 2))
    assert len(asked) == 2
    for done, (plans, worth) in zip(action, asked, strict=True):
        assert float(worth.std()) > 0  # what is done makes a difference
        assert torch.equal(done, plans[0, worth.argmax(), 0])
