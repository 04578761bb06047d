import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.learners.worlds import SIZE, TINY, learner, pond
from worldmodels.core import checkpoint, seeding
from worldmodels.core.errors import UserError
from worldmodels.learners.actor_critic import ActorCritic
from worldmodels.models.heads import RewardHead

STEPS = TINY.imagine - 1
SIDES = ((-1.0, 0.0), (1.0, 0.0), (0.5, 1.0))
BINS = torch.linspace(-20, 20, 255, dtype=torch.float64)


def written_out(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network of an actor or a critic of one hidden layer, in float64."""
    first, scale, shift, last, bias = weights.values()
    y = x @ first.T
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-3).sqrt() * scale + shift
    return (y / (1 + (-y).exp())) @ last.T + bias


def value(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    mean = torch.softmax(written_out(weights, x), -1) @ BINS
    return mean.sign() * (mean.abs().exp() - 1)


def in_float64(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone().double() for name, parameter in module.named_parameters()}


def luck(made: ActorCritic) -> tuple[Tensor, Tensor]:
    """The first update's starts and noise, in float64."""
    generator = seeding.generator(made._seed, "imagination", 0)
    rows = torch.randint(TINY.starts, (TINY.batch_size,), generator=generator)
    noise = seeding.uniform(generator, STEPS, TINY.batch_size, 1 + made.actor.actions.noise_size)
    return made._starts["x"][rows].double(), noise.double()


class Written:
    """A dream and both losses, straight from the formulas (HRSSM 4), in float64 and with no code of ours."""

    def __init__(self, made: ActorCritic, critic: dict[str, Tensor], held: "Written | None" = None) -> None:
        self.made, self.critic = made, critic
        self.x, self.noise = luck(made)
        self.actor = in_float64(made.actor)
        self.held = held  # the dream whose features the actor looks at, and by whose actions beyond 1 they are scaled

    def dream(self, actor: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Values v_0 .. v_T, rewards and ends of 1 .. T, entropies, and log pi of what was done."""
        self.xs, self.over = [self.x], []
        stats, rewards, ends, done = [], [], [], []
        for t in range(STEPS):
            stats.append(written_out(actor, self.held.xs[t] if self.held else self.xs[-1]))
            done.append(self.act(stats[-1], self.noise[t, :, 1:]))
            self.over.append(done[-1].detach().abs().clamp_min(1))
            over = self.held.over[t] if self.held else self.over[-1]
            self.xs.append(pond(self.xs[-1], done[-1] / over, self.noise[t, :, :1]))
            rewards.append(1 - (self.xs[-1] ** 2).sum(-1))
            ends.append(1 / (1 + (2 - self.xs[-1].sum(-1)).exp()))
        return value(self.critic, torch.stack(self.xs)), *map(torch.stack, (rewards, ends, stats, done))

    def act(self, stats: Tensor, noise: Tensor) -> Tensor:
        if self.made.actor.actions.noise_size == 2:
            m, r = stats.chunk(2, -1)
            std = 0.9 / (1 + (-(r + 2)).exp()) + 0.1
            return m.tanh() + std * torch.special.ndtri(noise)
        below = probabilities(stats).cumsum(-1)[:, :2]
        return torch.tensor(SIDES, dtype=torch.float64)[(noise > below).sum(-1)]


def probabilities(stats: Tensor) -> Tensor:
    return 0.99 * torch.softmax(stats, -1) + 0.01 / 3


def returns(v: Tensor, reward: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """R_0 .. R_{T-1}, and their weights."""
    discount = 0.997 * (1 - end)
    found = [v[-1]]
    for t in reversed(range(STEPS)):
        found.insert(0, reward[t] + discount[t] * (0.05 * v[t + 1] + 0.95 * found[0]))
    weight = [torch.ones_like(v[0]), torch.full_like(v[0], 0.997)]
    for t in range(STEPS - 2):
        weight.append(weight[-1] * discount[t])
    return torch.stack(found[:-1]), torch.stack(weight)


def two_hot(x: Tensor) -> Tensor:
    """By the distance to each bin."""
    x = x.sign() * (1 + x.abs()).log()
    gap = 40 / 254
    return (1 - (x.unsqueeze(-1) - BINS).abs() / gap).clamp_min(0)


def test_both_losses_and_the_actors_gradient_of_numbers_are_the_formulas() -> None:
    """The gradient by differences: held are what the actor looks at, by what actions beyond 1 are scaled back, weights
    and scale."""
    made = learner()
    critic, slow = in_float64(made.critic), in_float64(made.slow)
    before = Written(made, critic)
    v, reward, end, *_ = before.dream(before.actor)
    assert max(float(over.max()) for over in before.over) > 1
    target, weight = returns(v, reward, end)
    quantiles = 0.01 * np.quantile(target.numpy(), [0.05, 0.95])
    scale = max(1.0, quantiles[1] - quantiles[0])

    def loss(actor: dict[str, Tensor]) -> float:
        v, reward, end, stats, _ = Written(made, critic, before).dream(actor)
        std = 0.9 / (1 + (-(stats.chunk(2, -1)[1] + 2)).exp()) + 0.1
        entropy = (0.5 * math.log(2 * math.pi * math.e) + std.log()).sum(-1)
        return float(-(weight * ((returns(v, reward, end)[0] - v[:-1]) / scale + 3e-4 * entropy)).mean())

    actor = before.actor
    slow = {name: 0.98 * slow[name] + 0.02 * critic[name] for name in slow}
    shown = made.update()
    assert float(shown["actor_loss"]) == pytest.approx(loss(actor), rel=1e-4)
    assert made.scale.quantiles.tolist() == pytest.approx(quantiles.tolist(), rel=1e-4)
    for name, parameter in made.actor.named_parameters():
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)).double()
        sides = [loss(actor | {name: actor[name] + step * direction}) for step in (1e-5, -1e-5)]
        assert parameter.grad is not None
        found = float((parameter.grad.double() * direction).sum())
        assert found == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=2e-3, abs=1e-5), name
    logp = torch.log_softmax(written_out(critic, torch.stack(before.xs[:-1])), -1)
    wanted = two_hot(target) + two_hot(value(slow, torch.stack(before.xs[:-1])))
    expected = float((weight * -(wanted * logp).sum(-1)).mean())
    assert float(shown["critic_loss"]) == pytest.approx(expected, rel=1e-4)
    for name, parameter in made.slow.named_parameters():
        assert torch.allclose(parameter.double(), slow[name], atol=1e-6)


def test_the_actors_loss_of_choices_is_reinforce() -> None:
    made = learner(choices=SIDES)
    critic = in_float64(made.critic)
    written = Written(made, critic)
    actor = {name: value.requires_grad_() for name, value in written.actor.items()}
    v, reward, end, stats, done = written.dream(actor)
    target, weight = returns(v, reward, end)
    probs = probabilities(stats)
    chosen = (done.unsqueeze(-2) == torch.tensor(SIDES, dtype=torch.float64)).all(-1)
    assert (chosen.sum(-1) == 1).all() and chosen.flatten(0, 1).any(0).all()
    entropy = -(probs * probs.log()).sum(-1)
    aim = probs[chosen].view(target.shape).log() * (target - v[:-1]).detach() + 3e-4 * entropy
    loss = -(weight * aim).mean()
    gradients = torch.autograd.grad(loss, list(actor.values()))
    shown = made.update()
    assert float(shown["actor_loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    for parameter, expected in zip(made.actor.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad.double(), expected, rtol=1e-3, atol=1e-6)


def test_a_critic_is_two_hot_from_zero() -> None:
    fresh = learner(wild=False)
    assert fresh.critic(torch.randn(9, SIZE)).abs().max() < 1e-6
    made = learner()
    feat = torch.randn(20, SIZE)
    assert torch.allclose(made.critic(feat).double(), value(in_float64(made.critic), feat.double()), rtol=1e-4)


@pytest.mark.parametrize("critic_rate", [0.0, 3e-2])
def test_an_update_moves_the_slow_critic_before_and_actor_and_critic_once(critic_rate: float) -> None:
    made = learner(dataclasses.replace(TINY, critic_learning_rate=critic_rate))
    before = {name: copy.deepcopy(getattr(made, name)) for name in ("actor", "critic", "slow")}
    with torch.no_grad():
        for parameter in before["slow"].parameters():
            parameter.mul_(3)
    made.slow.load_state_dict(before["slow"].state_dict())
    made.update()
    pairs = zip(made.slow.parameters(), before["slow"].parameters(), before["critic"].parameters(), strict=True)
    for now, slow, fast in pairs:
        assert torch.allclose(now, 0.98 * slow + 0.02 * fast, atol=1e-6)  # of the critic before it learnt
    for name, rate in (("actor", TINY.learning_rate), ("critic", critic_rate or TINY.learning_rate)):
        after = dict(getattr(made, name).named_parameters())
        moved = {key: (after[key] - value).detach().abs().max() for key, value in before[name].named_parameters()}
        assert all(0 < float(step) <= rate * 1.01 for step in moved.values())
        assert max(moved.values()) > rate * 0.99  # Adam's first step is the rate, where there is a slope


def test_state_goes_on_to_the_bit(tmp_path: Path) -> None:
    straight, other = learner(), learner()
    for _ in range(3):
        straight.update()
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, "test", straight.state())
    resumed = learner(seed=3)
    resumed.load(checkpoint.load(path, "test"), path)
    for one in (straight, resumed):
        for _ in range(2):
            one.update()
    assert straight.step == resumed.step == 5
    assert torch.equal(straight.actor.params(), resumed.actor.params())
    assert torch.equal(straight.scale.quantiles, resumed.scale.quantiles)
    assert all(torch.equal(a, b) for a, b in zip(straight.slow.parameters(), resumed.slow.parameters(), strict=True))
    assert not torch.equal(straight.actor.params(), other.actor.params())
    small = learner(dataclasses.replace(TINY, units=4))
    with pytest.raises(UserError, match=r"state\.safetensors holds weights of another shape"):
        small.load(checkpoint.load(path, "test"), path)


@pytest.mark.parametrize("choices", [(), ((0.0, 0.0), (1.0, 1.0), (-1.0, -1.0))])
def test_an_actor_learns_to_stay_in_the_middle_of_the_pond(choices: tuple) -> None:
    settings = dataclasses.replace(TINY, units=32, batch_size=64, starts=256, imagine=8)
    made = learner(settings, choices, wild=False)
    paid = [float(made.update()["reward"]) for _ in range(150)]
    first, last = np.mean(paid[:10]), np.mean(paid[-10:])
    assert last > first + 0.3


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    made = learner()
    with torch.no_grad():
        made.critic.net[-1].bias.fill_(math.nan)
    before = made.actor.params()
    with pytest.raises(UserError, match="the gradient of the actor is not finite at update 0; try --fresh with a"):
        made.update()
    assert torch.equal(before, made.actor.params())


def test_a_critic_is_the_reward_head_of_two_targets() -> None:
    torch.manual_seed(0)
    head, feat = RewardHead(4, 8, 1), torch.randn(5, 4)
    torch.nn.init.normal_(head.net[-1].weight)
    a, b = torch.randn(2, 5) * 50
    assert torch.allclose(head.loss(feat, a, b), head.loss(feat, a) + head.loss(feat, b), rtol=1e-5)
