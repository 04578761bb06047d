import copy
import dataclasses

import numpy as np
import pytest
import torch

from tests.conftest import World
from tests.dreams.test_capture import by_hand
from worldmodels import models
from worldmodels.acting.agents import ModelAgent
from worldmodels.acting.controller_spec import ControllerSpec, Network
from worldmodels.core.seeding import Noise, rng
from worldmodels.dreams.capture import Captured
from worldmodels.dreams.dream import Dream
from worldmodels.evolution.evaluators import DreamEvaluator
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers.local import Workers

INPUTS = ("z", "c", "h")


@pytest.fixture
def spec(world) -> ControllerSpec:
    return ControllerSpec(EnvSpec("doom"), world.run, INPUTS, 0, False, 40, "fp32")


def test_a_dream_is_the_model_stepped_by_hand(model) -> None:
    model, seeds = model, [3, 4]
    dream = Dream(model, tau=1.3)
    dream.begin(seeds)
    noise = Noise(seeds, model.noise_size + 1)
    starts = model.starts[[int(rng(s, "start").integers(len(model.starts))) for s in seeds]]
    drawn = noise.draw()[:, :-1]
    state = model.observe(model.initial(2), torch.zeros(2, 1), starts, torch.ones(2, 1), drawn)
    for t in range(20):
        assert torch.equal(dream.features(INPUTS), torch.cat([state[k] for k in INPUTS], -1))
        action = torch.full((2, 1), np.sin(t))
        reward, terminated = dream.step(action)
        state, expected_reward, _, ended = model.imagine(state, action, noise.draw()[:, :-1], 1.3)
        assert torch.equal(reward, expected_reward) and torch.equal(terminated, ended)


def test_a_dream_sets_out_from_any_state_with_the_luck_of_its_seed(model) -> None:
    dream = Dream(model, sample_end=True)
    dream.begin([1])
    dream.step(torch.ones(1, 1))
    state = dream.state
    noise = Noise([7], model.noise_size + 1)
    dream.begin_from(state, [7])
    for t in range(5):
        drawn = noise.draw()
        expected = model.imagine(state, torch.full((1, 1), np.sin(t)), drawn[:, :-1])
        dreamt = dream.dreamt(dream.state, torch.full((1, 1), np.sin(t)), dream.draw())
        assert torch.equal(dreamt.end, expected.end) and torch.equal(dreamt.reward, expected.reward)
        assert torch.equal(dreamt.terminated, expected.end > drawn[:, -1])
        dream.state = state = dreamt.state


def test_a_dream_begins_with_memory_cleared_and_the_restart_flag_up(model) -> None:
    dream = Dream(model)
    dream.begin([1, 2, 3])
    assert not dream.state["h"].any() and not dream.state["c"].any() and dream.state["first"].all()
    dream.step(torch.zeros(3, 1))
    assert dream.state["h"].any() and not dream.state["first"].any()


def test_a_candidates_score_depends_neither_on_order_nor_on_who_else_dreams(model, spec: ControllerSpec) -> None:
    evaluator = DreamEvaluator(model, spec, tau=1.0)
    params = np.random.default_rng(0).normal(0, 1, (6, 40))
    seeds = [10, 11, 12]
    scores = evaluator.evaluate(params, seeds)
    assert len(np.unique(scores.lengths)) > 3  # rows do leave the batch, at different times
    order = [4, 0, 5, 2, 1, 3]
    assert np.array_equal(evaluator.evaluate(params[order], seeds).returns, scores.returns[order])
    assert np.array_equal(evaluator.evaluate(params[2:3], seeds).lengths[0], scores.lengths[2])
    assert np.array_equal(evaluator.evaluate(params, [12, 10]).lengths, scores.lengths[:, [2, 0]])


def test_rewards_are_paid_up_to_and_with_the_last_step(model, spec: ControllerSpec) -> None:
    scores = DreamEvaluator(model, spec, tau=1.0).evaluate(np.zeros((1, 40)), list(range(30)))
    assert np.array_equal(scores.returns, scores.lengths)  # 1 per step alive, the last included
    assert scores.lengths.min() >= 1 and scores.lengths.max() <= 40
    dream = Dream(model)
    dream.begin([7])
    steps = 0
    while True:
        steps += 1
        _, terminated = dream.step(torch.zeros(1, 1))
        if terminated[0] or steps == 40:
            break
    assert scores.lengths[0, 7] == steps


def test_sampled_ends_follow_the_predicted_probability(model) -> None:
    kept = model.memory.head.bias.data[-1].clone(), model.memory.head.weight.data[-1].clone()
    model.memory.head.weight.data[-1].zero_()
    model.memory.head.bias.data[-1] = float(np.log(0.02 / 0.98) + np.log(model.memory.settings.termination_weight))
    dream = Dream(model, sample_end=True)
    dream.begin(list(range(2000)))
    _, sampled = dream.step(torch.zeros(2000, 1))
    never = Dream(model)
    never.begin([0])
    _, ended = never.step(torch.zeros(1, 1))
    model.memory.head.bias.data[-1], model.memory.head.weight.data[-1] = kept
    assert abs(float(sampled.float().mean()) - 0.02) < 0.008 and not ended.any()


def test_temperature_widens_what_is_dreamt(model) -> None:
    def spread(tau: float) -> float:
        dream = Dream(model, tau)
        dream.begin(list(range(500)))
        dream.step(torch.zeros(500, 1))
        return float(dream.features(("z",)).std())

    assert spread(0.1) < spread(1.0) < spread(3.0)


def test_a_model_moves_with_where_its_dreams_begin(model) -> None:
    moved = copy.deepcopy(model).to("meta")
    assert moved.starts.device == moved.memory.cell.weight.device == torch.device("meta")


def test_acting_advances_memory_as_dreaming_does(model, spec: ControllerSpec) -> None:
    """Same codes, same actions: the memory that acts and the memory that dreams are one."""
    agent = ModelAgent(model, spec.controller(model), INPUTS, np.zeros(40))
    agent.begin([1])
    obs = np.zeros((1, 64, 64, 3), np.uint8)
    action = torch.from_numpy(agent.act(obs, [0], 0))
    first = dict(agent.state)
    agent.act(obs, [0], 1)
    dreamt = model.imagine(first, action, torch.full((1, model.noise_size), 0.5))
    assert torch.allclose(agent.state["h"], dreamt.state["h"]) and torch.allclose(agent.state["c"], dreamt.state["c"])


@pytest.mark.parametrize(("rows", "ended"), [(6, [6, 6, 3]), (9, [9, 6]), (2, [2, 1] * 5), (1, [1] * 15)])
def test_a_population_that_dreams_in_several_blocks_scores_as_in_one(
    model, spec: ControllerSpec, monkeypatch: pytest.MonkeyPatch, rows: int, ended: list[int]
) -> None:
    params, seeds = np.random.default_rng(0).normal(0, 1, (5, 40)), [10, 11, 12]
    whole = DreamEvaluator(model, spec, 1.0).evaluate(params, seeds)
    monkeypatch.setattr(model, "rows_per_core", rows)
    told: list[int] = []
    found = DreamEvaluator(model, spec, 1.0).evaluate(params, seeds, told.append)
    assert told == ended and found.lengths.shape == (5, 3)
    assert np.array_equal(found.lengths, whole.lengths) and np.allclose(found.returns, whole.returns)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_dreams_do_not_depend_on_the_number_of_workers(world: World, spec: ControllerSpec, num: int) -> None:
    here = models.load(world.run, precision=spec.precision)
    params, seeds = np.random.default_rng(0).normal(0, 1, (40, 40)), list(range(20))
    alone = DreamEvaluator(here, spec, 1.3, sample_end=True).evaluate(params, seeds)
    ended: list[int] = []
    with Workers(num) as workers:
        found = DreamEvaluator(here, spec, 1.3, True, workers).evaluate(params, seeds, ended.append)
    assert ended == [10 * 20] * 4  # blocks of at most 256 rows
    assert len(np.unique(alone.lengths)) > 4
    assert np.array_equal(found.returns, alone.returns) and np.array_equal(found.lengths, alone.lengths)


def test_gradients_pass_through_a_dream(model) -> None:
    """For those who learn to act by them."""
    state = model.observe(
        model.initial(2), torch.zeros(2, 1), model.starts[:1].expand(2, -1), torch.ones(2, 1),
        torch.full((2, model.noise_size), 0.3),
    )  # fmt: skip
    action = torch.zeros(2, 1, requires_grad=True)
    dreamt = model.imagine(state, action, torch.full((2, model.noise_size), 0.3))
    (gradient,) = torch.autograd.grad(dreamt.state["h"].sum() + dreamt.state["z"].sum(), action)
    assert gradient.abs().min() > 0
    with torch.no_grad():
        plain = model.imagine(state, action, torch.full((2, model.noise_size), 0.3))
    torch.testing.assert_close(plain.state["h"], dreamt.state["h"].detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("max_steps", [7, 40, 100])
def test_looking_seldom_keeping_few_sizes_and_recording_as_on_a_gpu_changes_no_score(
    model, spec: ControllerSpec, max_steps: int
) -> None:
    params, seeds = np.random.default_rng(0).normal(0, 1, (6, 40)), [10, 11, 12]
    spec = dataclasses.replace(spec, max_steps=max_steps)
    plain, seldom = (DreamEvaluator(model, spec, 1.0) for _ in range(2))
    seldom.player.records, seldom.player.step = True, Captured(seldom.player.advance, by_hand)
    expected, found = plain.evaluate(params, seeds), seldom.evaluate(params, seeds)
    assert len(np.unique(expected.lengths)) > 2
    assert np.array_equal(found.lengths, expected.lengths) and np.allclose(found.returns, expected.returns)


def test_a_recorded_step_acts_by_the_numbers_that_an_actor_has_now(model, spec: ControllerSpec) -> None:
    spec = dataclasses.replace(spec, actor=Network(8, 1, ()))
    count, seeds = spec.controller(model).num_params, list(range(10, 22))
    recorded = DreamEvaluator(model, spec, 1.0)
    recorded.player.records, recorded.player.step = True, Captured(recorded.player.advance, by_hand)
    lengths = []
    for params in np.random.default_rng(0).normal(0, 1, (2, 1, count)).astype(np.float32):
        expected = DreamEvaluator(model, spec, 1.0).evaluate(params, seeds)
        assert np.array_equal(recorded.evaluate(params, seeds).lengths, expected.lengths)
        lengths.append(expected.lengths)
    assert not np.array_equal(*lengths)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("sample_end", [False, True])
@pytest.mark.parametrize("actor", [None, Network(8, 1, ((-1.0,), (0.0,), (1.0,)))])
def test_on_a_gpu_captured_dreams_are_those_stepped_one_by_one(
    world, spec: ControllerSpec, sample_end: bool, actor: Network | None
) -> None:
    model = models.load(world.run, torch.device("cuda"), precision="fp32")
    spec = dataclasses.replace(spec, actor=actor)
    shape = (1 if actor else 6, spec.controller(model).num_params)
    params, seeds = np.random.default_rng(0).normal(0, 1, shape), [10, 11, 12]
    captured = DreamEvaluator(model, spec, 1.15, sample_end)
    plain = DreamEvaluator(model, spec, 1.15, sample_end)
    plain.player.step = plain.player.advance
    expected = plain.evaluate(params, seeds)
    for _ in range(2):  # recorded, then replayed from the start
        found = captured.evaluate(params, seeds)
        assert np.array_equal(found.lengths, expected.lengths)
        np.testing.assert_allclose(found.returns, expected.returns, rtol=1e-5)
