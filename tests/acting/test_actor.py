import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from worldmodels.acting.actions import Choices, Numbers
from worldmodels.acting.actor import Actor
from worldmodels.core import seeding

SIDES = ((-1.0,), (0.0,), (1.0,))


def test_numbers_are_gaussians_about_a_squashed_mean() -> None:
    """In float64, beside torch's own distribution and the formulas written out."""
    torch.manual_seed(0)
    actions, stats = Numbers(3), torch.randn(5, 6, dtype=torch.float64) * 3
    mean = np.tanh(stats.numpy()[:, :3])
    std = 0.9 / (1 + np.exp(-(stats.numpy()[:, 3:] + 2))) + 0.1
    assert actions.best(stats).numpy() == pytest.approx(mean) and actions.std(stats).numpy() == pytest.approx(std)
    known = Independent(Normal(torch.from_numpy(mean), torch.from_numpy(std)), 1)
    assert actions.entropy(stats).numpy() == pytest.approx(known.entropy().numpy(), rel=1e-12)
    action = torch.randn(5, 3, dtype=torch.float64)
    assert actions.log_prob(stats, action).numpy() == pytest.approx(known.log_prob(action).numpy(), rel=1e-12)
    noise = torch.rand(5, 3, dtype=torch.float64)
    sampled = actions.sample(stats, noise)
    assert torch.allclose(known.base_dist.cdf(sampled), noise)  # the quantile of the noise
    (slope,) = torch.autograd.grad(actions.sample(stats.requires_grad_(), noise).sum(), stats)
    assert (slope != 0).all()


def test_choices_have_one_percent_in_common_and_come_as_often_as_likely() -> None:
    actions, stats = Choices(SIDES), torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    soft = np.exp([0.0, 1.0, 3.0])
    probs = 0.99 * soft / soft.sum() + 0.01 / 3
    noise = seeding.uniform(seeding.generator(0, "test"), 40_000, 1)
    drawn = actions.sample(stats.expand(40_000, -1), noise).ravel()
    often = [float((drawn == side).double().mean()) for side in (-1, 0, 1)]
    assert often == pytest.approx(probs.tolist(), abs=0.01)
    for side, p in zip(SIDES, probs, strict=True):
        assert float(actions.log_prob(stats, torch.tensor([side]))) == pytest.approx(math.log(p), rel=1e-6)
    assert float(actions.entropy(stats)) == pytest.approx(float(-(probs * np.log(probs)).sum()))
    assert actions.best(stats).tolist() == [[1.0]]


def test_an_actor_starts_as_dreamers() -> None:
    """The authors' size: 1,536 features, six actions; the last layer uniform by the mean of its sides."""
    torch.manual_seed(0)
    actor = Actor(1536, 6)
    layers = (1536 + 2) * 512 + (512 + 2) * 512 + (512 + 1) * 12
    assert actor.num_params == layers == len(actor.params())
    last = actor.net[-1]
    bound = math.sqrt(3 / ((512 + 12) / 2))
    assert float(last.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01) and not last.bias.any()


@pytest.mark.parametrize("choices", [(), SIDES])
def test_an_actor_acts_by_the_numbers_that_it_is_given(choices: tuple) -> None:
    torch.manual_seed(1)
    one, other, feat = Actor(5, 1, 8, 2, choices), Actor(5, 1, 8, 2, choices), torch.randn(64, 5)
    places = [parameter.data_ptr() for parameter in other.parameters()]
    given = other.given(one.params()[None])
    rows = given.expand(64, -1)
    assert given.shape == (1, 0) and torch.equal(one.act(rows, feat), other.act(rows, feat))
    assert places == [parameter.data_ptr() for parameter in other.parameters()]  # or a recorded graph would read others
    assert one.act(rows, feat).abs().max() <= 1 and len(one.act(rows, feat).unique()) > 1
    with pytest.raises(ValueError, match="by one set of numbers; got 2"):
        other.given(one.params().repeat(2, 1))


def test_choices_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="a choice has 1 numbers, but an action 2"):
        Actor(5, 2, 8, 2, SIDES)


def test_features_are_scaled_as_they_once_were_and_nothing_trains_that() -> None:
    torch.manual_seed(2)
    actor, feat = Actor(3, 1, 8, 1, SIDES, scaled=True), torch.tensor([[1.0, 200.0, 7.0], [3.0, 600.0, 7.0001]])
    assert actor.num_params == Actor(3, 1, 8, 1, SIDES).num_params + 6
    actor.scaled.settle(feat)
    root = 2**-0.5  # of two numbers, each is half of their distance from the mean, and the deviation that times root 2
    assert torch.allclose(actor.scaled(feat), torch.tensor([[-root, -root, 0.0], [root, root, 0.0]]), atol=1e-3)
    assert actor.scaled(feat * 100).abs().max() == 5
    actor(feat).sum().backward()
    assert actor.scaled.mean.grad is None
    other = Actor(3, 1, 8, 1, SIDES, scaled=True)
    other.given(actor.params()[None])
    assert torch.equal(other(feat), actor(feat))
