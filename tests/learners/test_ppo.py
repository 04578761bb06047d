"""PPO, against its formulas in float64 and a world whose every step can be written down."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.learners.test_actor_critic import BINS, in_float64, written_out
from tests.learners.worlds import SIZE, TINY_PPO, Shore, pond, ppo
from worldmodels.acting.actor import Actor
from worldmodels.core import checkpoint, seeding
from worldmodels.core.errors import UserError
from worldmodels.learners.losses import near_loss
from worldmodels.learners.ppo import Decided
from worldmodels.learners.ppo_dreams import DreamPPO
from worldmodels.learners.returns import advantages
from worldmodels.models.base import Dreamed, State
from worldmodels.settings.models import PPOSettings

SIDES = ((-1.0, 0.0), (1.0, 0.0), (0.5, 1.0))
VALUES = BINS.sign() * (BINS.abs().exp() - 1)


def value(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.softmax(written_out(weights, x), -1) @ VALUES


def two_hot(x: Tensor) -> Tensor:
    """By the distance to each value, in gaps between the two that it lies between."""
    weights = torch.zeros(*x.shape, len(VALUES), dtype=torch.float64)
    for row, number in enumerate(x):
        above = int((number > VALUES).sum())
        gap = VALUES[above] - VALUES[above - 1]
        weights[row, above] = (number - VALUES[above - 1]) / gap
        weights[row, above - 1] = (VALUES[above] - number) / gap
    return weights


def made(settings: PPOSettings = TINY_PPO, choices: tuple = SIDES, longest: int = 1000) -> DreamPPO:
    return ppo(settings, choices, longest)


@pytest.mark.parametrize("lambda_", [0.0, 0.9, 1.0])
def test_advantages_are_the_sum_of_what_surprises_until_a_dream_is_cut(lambda_: float) -> None:
    rng = np.random.default_rng(0)
    reward, value, following = rng.normal(size=(3, 6, 4))
    discount = rng.uniform(size=(6, 4))
    cut = (rng.random((6, 4)) < 0.3).astype(float)
    found = advantages(*map(torch.from_numpy, (reward, discount, value, following, cut)), lambda_).numpy()
    for row in range(4):
        for t in range(6):
            expected, worth = 0.0, 1.0
            for k in range(t, 6):
                expected += worth * (reward[k, row] + discount[k, row] * following[k, row] - value[k, row])
                if cut[k, row]:
                    break
                worth *= lambda_ * discount[k, row]
            assert found[t, row] == pytest.approx(expected, rel=1e-12)
    assert 0 < cut.sum() < cut.size


def test_a_decision_that_has_become_likely_enough_gains_nothing_more() -> None:
    before = torch.log(torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64))
    now = torch.log(torch.tensor([0.7, 0.55, 0.3, 0.3], dtype=torch.float64)).requires_grad_()
    gain = torch.tensor([1.0, 2.0, -3.0, 4.0], dtype=torch.float64)
    scaled = (gain - 1.0) / gain.std(correction=0)
    loss = near_loss(now, before, gain, 0.2)
    # ratios 1.4, 1.1, 0.6, 0.6; the first has no gain about the mean, the third is far enough down already
    expected = -(1.2 * scaled[0] + 1.1 * scaled[1] + 0.8 * scaled[2] + 0.6 * scaled[3]) / 4
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    (slope,) = torch.autograd.grad(loss, now)
    assert slope[2] == 0 and slope[1] < 0 and slope[3] < 0


@pytest.mark.parametrize("choices", [SIDES, ()])
def test_what_is_learnt_from_is_what_was_dreamt(choices: tuple) -> None:
    """Rewards and discounts of held decisions, values and likelihoods, written out in float64 from the same luck."""
    learner = made(choices=choices)
    start = learner._dreams["x"].double()
    actor, critic = in_float64(learner.actor), in_float64(learner.critic)
    decided = learner.decide(seeding.generator(3, "ppo", 0))
    x = start
    for t in range(TINY_PPO.decisions):
        assert torch.allclose(decided.feat[t].double(), x, atol=1e-4)
        stats = written_out(actor, x)
        assert torch.allclose(decided.log_prob[t].double(), log_prob(stats, decided.action[t].double()), atol=1e-3)
        assert torch.allclose(decided.value[t].double(), value(critic, x), rtol=1e-3, atol=1e-3)
        x, paid, discount = held(learner, decided, x, t)
        assert torch.allclose(decided.reward[t].double(), paid, atol=1e-4)
        assert torch.allclose(decided.discount[t].double(), discount, atol=1e-4)
        assert torch.allclose(decided.following[t].double(), value(critic, x), rtol=1e-3, atol=1e-3)
        fresh = decided.cut[t].bool()
        if t + 1 < TINY_PPO.decisions:  # rows that were cut begin at a moment
            x = torch.where(fresh[:, None], decided.feat[min(t + 1, TINY_PPO.decisions - 1)].double(), x)
            begun = decided.feat[t + 1][fresh]
            there = learner._model.moments["x"]
            assert all((there == row).all(1).any() for row in begun)
    assert 0 < decided.cut.sum() < decided.cut.numel()


def held(learner: DreamPPO, decided: Decided, x: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """A decision's steps, from the luck that it had: drawn again in the order in which PPO draws."""
    generator = seeding.generator(3, "ppo", 0)
    for earlier in range(t + 1):
        seeding.uniform(generator, TINY_PPO.rows, learner.actor.actions.noise_size)
        luck = [seeding.uniform(generator, TINY_PPO.rows, 1).double() for _ in range(TINY_PPO.hold)]
        seeding.uniform(generator, TINY_PPO.rows)  # who ends
        if cut := int(decided.cut[earlier].sum()):
            torch.randint(len(learner._model.moments["x"]), (cut,), generator=generator)
    action = decided.action[t].double()
    action = action / action.abs().clamp_min(1)
    paid, discount = torch.zeros(TINY_PPO.rows).double(), torch.ones(TINY_PPO.rows).double()
    for noise in luck:
        x = pond(x, action, noise)
        paid = paid + discount * (1 - (x**2).sum(-1))
        discount = 0.9 * discount * (1 - 1 / (1 + (2 - x.sum(-1)).exp()))
    return x, paid, discount


def log_prob(stats: Tensor, action: Tensor) -> Tensor:
    if stats.shape[-1] == len(SIDES):
        which = (action[:, None] - torch.tensor(SIDES)).abs().sum(-1).argmin(-1)
        return (0.99 * torch.softmax(stats, -1) + 0.01 / 3).log()[torch.arange(len(which)), which]
    m, r = stats.chunk(2, -1)
    std = 0.9 / (1 + (-(r + 2)).exp()) + 0.1
    return torch.distributions.Normal(m.tanh(), std).log_prob(action).sum(-1)


def test_the_losses_of_a_gradient_step_are_the_formulas() -> None:
    learner = made()
    actor, critic = in_float64(learner.actor), in_float64(learner.critic)
    decided = copy.deepcopy(learner).decide(seeding.generator(3, "ppo", 0))
    shown = learner.update()
    feat, action = decided.feat.double().flatten(0, 1), decided.action.double().flatten(0, 1)
    fields = (decided.reward, decided.discount, decided.value, decided.following, decided.cut)
    gain = advantages(*(field.double() for field in fields), TINY_PPO.lambda_)
    target = (gain + decided.value.double()).flatten()
    ratio = (log_prob(written_out(actor, feat), action) - decided.log_prob.double().flatten()).exp()
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=1e-3)  # nothing has moved before the first step
    logp = torch.log_softmax(written_out(critic, feat), -1)
    assert float(shown["critic_loss"]) == pytest.approx(float(-(two_hot(target) * logp).sum(-1).mean()), rel=1e-3)
    assert float(shown["actor_loss"]) == pytest.approx(0, abs=1e-3)
    assert float(shown["return"]) == pytest.approx(float(target.mean()), rel=1e-4)
    probs = 0.99 * torch.softmax(written_out(actor, feat), -1) + 0.01 / 3
    assert float(shown["entropy"]) == pytest.approx(float(-(probs * probs.log()).sum(-1).mean()), rel=1e-4)


@pytest.mark.parametrize("choices", [SIDES, ()])
def test_it_learns_to_keep_the_pond_calm(choices: tuple) -> None:
    settings = dataclasses.replace(TINY_PPO, rows=64, decisions=16, hold=1, batch_size=256, epochs=3, entropy=1e-3)
    learner = made(settings, choices, longest=20)
    paid = [float(learner.update()["reward"]) for _ in range(25)]
    assert np.mean(paid[-5:]) > np.mean(paid[:5]) + 0.2


def test_a_last_step_of_one_decision_is_no_trouble() -> None:
    learner = made(dataclasses.replace(TINY_PPO, batch_size=34))  # of 35
    assert all(np.isfinite(float(value)) for value in learner.update().values())


def test_dreams_that_have_lasted_long_enough_begin_anew() -> None:
    settings = dataclasses.replace(TINY_PPO, decisions=8)
    decided = made(settings, longest=9).decide(seeding.generator(3, "ppo", 0))
    for row in decided.cut.T:
        cuts = row.nonzero().squeeze(-1).tolist()
        assert all(later - earlier <= 3 for earlier, later in zip([-1, *cuts], cuts, strict=False))


def test_an_update_depends_on_nothing_but_the_state(tmp_path: Path) -> None:
    straight, stopped = made(), made()
    for learner in (straight, stopped):
        learner.update()
    checkpoint.save(tmp_path / "file", "anything", stopped.state())
    resumed = made()
    resumed.load(checkpoint.load(tmp_path / "file", "anything"), tmp_path / "file")
    for _ in range(2):
        expected, found = straight.update(), resumed.update()
        assert {name: float(value) for name, value in expected.items()} == {n: float(v) for n, v in found.items()}
    assert resumed.step == 3 and np.array_equal(straight.params, resumed.params)


def test_a_checkpoint_of_another_is_refused() -> None:
    learner = made()
    learner.update()
    state = learner.state()
    path = Path("file")
    with pytest.raises(UserError, match=r"file holds dreams of another size; start anew with --fresh"):
        made(dataclasses.replace(TINY_PPO, rows=8)).load(state, path)
    doubled = {name: value.double() for name, value in state["dreams"].items()}
    with pytest.raises(UserError, match="file holds dreams of another size"):
        made().load(state | {"dreams": doubled}, path)
    state["actor_optimizer"]["state"].popitem()
    with pytest.raises(UserError, match="file lacks moments of an optimizer"):
        made().load(state, path)


def test_a_gradient_that_is_no_number_is_told_of() -> None:
    learner = made()
    with torch.no_grad():
        next(learner.critic.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"the gradient of the .* is not finite at update 0; try --fresh"):
        learner.update()


class Wage(Shore):
    """A shore that pays 1 at every step, for ever."""

    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        dreamt = super().imagine(state, action, noise, tau)
        nothing = torch.zeros_like(dreamt.reward)
        return Dreamed(dreamt.state, nothing + 1, nothing, nothing > 0)


def test_a_new_critic_comes_to_what_is_paid_beyond_the_decisions_of_an_update(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY_PPO, decisions=4, hold=1, batch_size=28)
    learner = DreamPPO(Wage(), Actor(SIZE, 2, 8, 1), ("x",), settings, 3)  # type: ignore[arg-type]
    learner.start_from(learner.params, tmp_path / "no-checkpoint")
    assert learner._fittings == 8  # thrice ten steps, four at a time
    learner._fit()
    expected = float(learner.decide(seeding.generator(7)).value.median())
    assert 7.5 < expected < 10.5  # of 10; what three times four steps pay is 7.2
