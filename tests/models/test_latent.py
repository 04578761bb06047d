import numpy as np
import pytest
import torch

from worldmodels.models.latent import UNIMIX, Categorical, Gaussian, balanced_kl

DOUBLE = torch.float64


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def by_hand(raw: torch.Tensor, groups: int, classes: int) -> np.ndarray:
    """Probabilities with 1 % of the uniform distribution mixed in, in float64."""
    x = raw.double().numpy().reshape(*raw.shape[:-1], groups, classes)
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    return (1 - UNIMIX) * p + UNIMIX / classes


def test_categorical_kl_in_float64() -> None:
    latent, a, b = Categorical(3, 4), logits(5, 12), logits(5, 12, seed=1)
    p, q = by_hand(a, 3, 4), by_hand(b, 3, 4)
    assert latent.kl(a, b).numpy() == pytest.approx((p * np.log(p / q)).sum((1, 2)), rel=1e-4)


def test_gaussian_kl_against_torch_distributions_in_float64() -> None:
    latent, a, b = Gaussian(4), logits(5, 8), logits(5, 8, seed=1)
    p, q = (torch.distributions.Normal(latent.center(x).double(), latent.std(x).double()) for x in (a, b))
    assert torch.allclose(latent.kl(a, b).double(), torch.distributions.kl_divergence(p, q).sum(-1), rtol=1e-4)


def test_balanced_kl_has_free_nats_and_teaches_the_prior_five_times_as_much() -> None:
    latent, prior, posterior = Categorical(2, 4), logits(6, 8), logits(6, 8, seed=1)
    p, q = by_hand(posterior, 2, 4), by_hand(prior, 2, 4)
    kl = (p * np.log(p / q)).sum((1, 2))
    loss, shown = balanced_kl(latent, posterior, prior, free=1.0)
    assert float(loss) == pytest.approx(0.6 * np.maximum(kl, 1).mean(), rel=1e-4)
    assert float(shown) == pytest.approx(kl.mean(), rel=1e-4)
    for free, flows in ((1e3, False), (0.0, True)):
        x, y = posterior.clone().requires_grad_(), prior.clone().requires_grad_()
        balanced_kl(latent, x, y, free)[0].backward()
        assert x.grad is not None and y.grad is not None and bool(x.grad.any()) == bool(y.grad.any()) == flows
    assert y.grad.abs().sum() > 2 * x.grad.abs().sum()


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_categorical_samples_follow_their_tempered_probabilities(tau: float) -> None:
    latent, raw = Categorical(2, 5), logits(10)
    noise = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0))
    z = latent.sample(raw.expand(200_000, -1), noise, tau)
    assert ((z == 0) | (z == 1)).all() and (z.unflatten(-1, (2, 5)).sum(-1) == 1).all()
    p = by_hand(raw, 2, 5) ** (1 / tau)
    assert np.allclose(z.mean(0).numpy(), (p / p.sum(-1, keepdims=True)).ravel(), atol=0.005)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_gaussian_samples_have_root_tau_times_their_spread(tau: float) -> None:
    latent, raw = Gaussian(3), logits(6)
    noise = torch.rand(200_000, 3, generator=torch.Generator().manual_seed(0)).clamp_min(1e-6)
    z = latent.sample(raw.expand(200_000, -1), noise, tau)
    assert torch.allclose(z.mean(0), latent.center(raw), atol=0.03)
    assert torch.allclose(z.std(0), latent.std(raw) * tau**0.5, rtol=0.02)


def test_gradient_passes_straight_through_a_sample() -> None:
    latent, raw = Categorical(1, 3), logits(4, 3).requires_grad_()
    weights = torch.tensor([1.0, 2.0, 5.0])
    (latent.sample(raw, torch.full((4, 1), 0.4)) @ weights).sum().backward()
    through = raw.grad.clone()
    raw.grad = None
    (latent.center(raw) @ weights).sum().backward()
    assert torch.allclose(through, raw.grad)


def test_gradient_of_the_mode_is_that_of_log_probabilities() -> None:
    """As the authors', in float64; by probabilities it would be smaller by what each class has."""
    latent = Categorical(2, 4)
    raw = logits(3, 8)
    weight = logits(3, 8, seed=1)
    stats = raw.clone().requires_grad_()
    z = latent.mode(stats)
    (z * weight).sum().backward()
    own = raw.double().requires_grad_()
    p = (1 - UNIMIX) * own.unflatten(-1, (2, 4)).softmax(-1) + UNIMIX / 4
    (p.log() * weight.double().unflatten(-1, (2, 4))).sum().backward()
    assert stats.grad is not None and own.grad is not None
    assert torch.allclose(stats.grad.double(), own.grad, atol=1e-5)
    assert torch.equal(z.detach().unflatten(-1, (2, 4)).argmax(-1), p.argmax(-1))
