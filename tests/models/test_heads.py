import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldmodels.models.heads import RewardHead, ValueHead, symexp, symlog, two_hot


@given(st.floats(-1e4, 1e4))
def test_symexp_inverts_symlog(x: float) -> None:
    assert float(symexp(symlog(torch.tensor(x, dtype=torch.float64)))) == pytest.approx(x, rel=1e-9, abs=1e-9)


@given(st.floats(-25, 25))
def test_two_hot_lies_on_neighbours_and_keeps_the_mean(x: float) -> None:
    bins = torch.linspace(-20, 20, 255, dtype=torch.float64)
    weights = two_hot(torch.tensor(x, dtype=torch.float64), bins)
    on = torch.nonzero(weights).ravel()
    assert 1 <= len(on) <= 2 and int(on[-1] - on[0]) <= 1 and float(weights.sum()) == pytest.approx(1)
    assert float(weights @ bins) == pytest.approx(np.clip(x, -20, 20), abs=1e-9)


def test_reward_loss_in_float64() -> None:
    torch.manual_seed(0)
    head = RewardHead(6, 16, 1)
    torch.nn.init.normal_(head.net[-1].weight)
    feat, reward = torch.randn(4, 6), torch.tensor([0.0, 1.5, -100.0, 0.37])
    logits = head.net(feat).detach().double().numpy()
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    bins = np.linspace(-20, 20, 255)
    y = np.sign(reward.numpy()) * np.log1p(np.abs(reward.numpy()))
    expected = []
    for value, row in zip(y, logp, strict=True):
        low = np.searchsorted(bins, value, "right") - 1
        share = (value - bins[low]) / (bins[low + 1] - bins[low])
        expected.append(-((1 - share) * row[low] + share * row[low + 1]))
    assert head.loss(feat, reward).detach().numpy() == pytest.approx(np.array(expected), rel=1e-4)
    mean = (np.exp(logp) * bins).sum(-1)
    assert head(feat).detach().numpy() == pytest.approx(np.sign(mean) * np.expm1(np.abs(mean)), rel=1e-3, abs=1e-4)


def test_an_untrained_head_expects_nothing_and_is_unsure() -> None:
    head = RewardHead(6, 16, 2)
    assert torch.allclose(head(torch.randn(3, 6)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(head.loss(torch.randn(3, 6), torch.ones(3)), torch.full((3,), float(np.log(255))), rtol=1e-4)


def test_a_value_is_the_mean_of_what_is_held_likely() -> None:
    head = ValueHead(1, 4, 0)
    wanted = two_hot(torch.tensor([100.0, -3.0]), head.bins).mean(0)
    with torch.no_grad():
        head.net[-1].bias.copy_(wanted.clamp_min(1e-30).log())
    assert float(head(torch.zeros(1, 1))) == pytest.approx(48.5, rel=1e-4)


def test_a_values_loss_is_least_where_it_tells_the_return() -> None:
    head = ValueHead(1, 4, 0)
    optimizer = torch.optim.Adam(head.parameters(), 0.3)
    returns = torch.tensor([20.0, 900.0]).repeat(8)
    for _ in range(400):
        loss = head.loss(torch.zeros(16, 1), returns).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(head(torch.zeros(1, 1))) == pytest.approx(460, rel=0.02)
