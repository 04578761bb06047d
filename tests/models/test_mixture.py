import math

import pytest
import torch

from worldmodels.models.mixture import BLOCK, nll, sample, split


def outputs(rows: int = 4, components: int = 5, code: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(rows, 3 * components * code, dtype=torch.float64, generator=g) * 0.7


def by_torch(out: torch.Tensor, target: torch.Tensor, components: int) -> torch.Tensor:
    logits, mu, logstd = out.unflatten(-1, (3, components, -1)).unbind(-3)
    distribution = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=logits.transpose(-1, -2)),
        torch.distributions.Normal(mu.transpose(-1, -2), logstd.exp().transpose(-1, -2)),
    )
    return -distribution.log_prob(target).mean(-1)


def test_nll_and_its_gradient_against_torch_distributions_in_float64() -> None:
    rows = 2 * BLOCK + 3  # several blocks, the last one short
    target = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    weight = torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    ours, theirs = outputs(rows).requires_grad_(), outputs(rows).requires_grad_()
    found, expected = nll(ours, target, 5), by_torch(theirs, target, 5)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_nll_keeps_leading_sizes() -> None:
    out, target = outputs(6).reshape(2, 3, -1), torch.zeros(2, 3, 3, dtype=torch.float64)
    assert torch.equal(nll(out, target, 5), nll(out.flatten(0, 1), target.flatten(0, 1), 5).reshape(2, 3))


def test_nll_in_closed_form() -> None:
    out = torch.zeros(1, 15, dtype=torch.float64)  # five times the same standard normal
    for x in (0.0, 1.0, -30.0):
        found = float(nll(out, torch.full((1, 1), x, dtype=torch.float64), 5))
        assert found == pytest.approx(0.5 * x * x + 0.5 * math.log(2 * math.pi), rel=1e-12)


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 1.15, 2.0])
def test_samples_at_a_temperature_follow_the_formula(tau: float) -> None:
    """Weights softmax(logpi / tau), standard deviations sigma sqrt(tau): mean and variance over 400,000 samples."""
    out, n = outputs(rows=1), 400_000
    noise = torch.rand(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).clamp_min(1e-12)
    z = sample(out.expand(n, -1), noise, tau, 5)
    logits, mu, logstd = (part[0] for part in split(out, 5))
    weights = torch.softmax(logits / tau, 0)
    mean = (weights * mu).sum(0)
    second = (weights * (mu**2 + (2 * logstd).exp() * tau)).sum(0)
    variance = second - mean**2
    assert ((z.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    assert torch.allclose(z.var(0), variance, rtol=0.02)
