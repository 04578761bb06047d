"""The stochastic part z of an RSSM's state: groups of categorical variables, or Gaussians (HRSSM 1.2)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.models.base import normal
from worldmodels.models.fast.activations import softmax

UNIMIX = 0.01
MIN_STD = 0.1


class Categorical:
    """G variables of C classes each, one-hot; every class has at least 1 % / C (unimix).

    A distribution over it is a tensor of raw logits (..., G * C).
    """

    def __init__(self, groups: int, classes: int) -> None:
        self.groups, self.classes = groups, classes
        self.size = self.params_size = groups * classes
        self.noise_size = groups

    def probs(self, params: Tensor) -> Tensor:
        """(..., G, C)."""
        probs = softmax(params.float().unflatten(-1, (self.groups, self.classes)))
        return (1 - UNIMIX) * probs + UNIMIX / self.classes

    def center(self, params: Tensor) -> Tensor:
        """The probabilities, flat (..., Z): what z is in expectation."""
        return self.probs(params).flatten(-2)

    def mode(self, params: Tensor) -> Tensor:
        """The likeliest z, (..., Z), with straight-through gradient."""
        probs = self.probs(params)
        return self._through(self._hot(probs.argmax(-1)), probs)

    def sample(self, params: Tensor, noise: Tensor, tau: float = 1.0) -> Tensor:
        """z (..., Z) from uniform noise (..., G) in (0, 1), straight-through; log probabilities are divided by tau."""
        probs = self.probs(params)
        if tau != 1.0:
            probs = softmax(probs.log() / tau)
        below = probs.detach()[..., :-1].cumsum(-1)
        return self._through(self._hot((noise.unsqueeze(-1) > below).sum(-1)), probs)

    def kl(self, params: Tensor, other: Tensor) -> Tensor:
        """KL divergence of `params` from `other` in nats, summed over the groups: (...,)."""
        p, q = self.probs(params), self.probs(other)
        return (p * (p.log() - q.log())).sum((-2, -1))

    def _hot(self, index: Tensor) -> Tensor:
        """float32 (..., C); unlike F.one_hot it asks no device's host for the range of `index`."""
        return (index.unsqueeze(-1) == torch.arange(self.classes, device=index.device)).float()

    def _through(self, hot: Tensor, probs: Tensor) -> Tensor:
        return (hot + probs - probs.detach() if probs.requires_grad else hot).flatten(-2)


class Gaussian:
    """Z independent Gaussians; a distribution is a tensor (..., 2Z) of means and raw scales."""

    def __init__(self, size: int) -> None:
        self.size = self.noise_size = size
        self.params_size = 2 * size

    def center(self, params: Tensor) -> Tensor:
        """The means (..., Z)."""
        return params.float().chunk(2, -1)[0]

    mode = center

    def std(self, params: Tensor) -> Tensor:
        """Standard deviations (..., Z), at least 0.1."""
        return F.softplus(params.float().chunk(2, -1)[1]) + MIN_STD

    def sample(self, params: Tensor, noise: Tensor, tau: float = 1.0) -> Tensor:
        """z (..., Z) from uniform noise (..., Z); standard deviations are multiplied by the root of tau."""
        return self.center(params) + self.std(params) * math.sqrt(tau) * normal(noise)

    def kl(self, params: Tensor, other: Tensor) -> Tensor:
        """KL divergence of `params` from `other` in nats, summed: (...,)."""
        mean, std, mean2, std2 = self.center(params), self.std(params), self.center(other), self.std(other)
        return ((std2 / std).log() + (std**2 + (mean - mean2) ** 2) / (2 * std2**2) - 0.5).sum(-1)


Latent = Categorical | Gaussian


def balanced_kl(latent: Latent, posterior: Tensor, prior: Tensor, free: float) -> tuple[Tensor, Tensor]:
    """Dreamer's KL loss and the plain KL for the record, both scalar (HRSSM 3.2).

    0.5 x what teaches the prior + 0.1 x what teaches the posterior; below `free` nats per step neither is pressed.
    """
    dynamics = latent.kl(posterior.detach(), prior)
    representation = latent.kl(posterior, prior.detach())
    loss = 0.5 * dynamics.clamp_min(free).mean() + 0.1 * representation.clamp_min(free).mean()
    return loss, dynamics.detach().mean()
