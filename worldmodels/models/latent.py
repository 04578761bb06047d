"""The stochastic part z of an RSSM's state: groups of categorical variables, or Gaussians (HRSSM 1.2)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.models.codes import normal
from worldmodels.models.fast.activations import softmax

UNIMIX = 0.01
MIN_STD = 0.1


class Categorical:
    """G variables of C classes each, one-hot; every class has at least 1 % / C (unimix).

    The stats that a distribution over it is given by are raw logits (..., G * C).
    """

    def __init__(self, groups: int, classes: int) -> None:
        self.groups = groups
        self.classes = classes
        self.size = self.stats_size = groups * classes
        self.noise_size = groups

    def probs(self, stats: Tensor) -> Tensor:
        """(..., G, C)."""
        probs = softmax(stats.float().unflatten(-1, (self.groups, self.classes)))
        return (1 - UNIMIX) * probs + UNIMIX / self.classes

    def center(self, stats: Tensor) -> Tensor:
        """The probabilities, flat (..., Z): what z is in expectation."""
        return self.probs(stats).flatten(-2)

    def mode(self, stats: Tensor) -> Tensor:
        """The likeliest z, (..., Z); its straight-through gradient is that of log probabilities, as the authors'."""
        probs = self.probs(stats)
        return self._through(self._hot(probs.argmax(-1)), probs.log())

    def sample(self, stats: Tensor, noise: Tensor, tau: float = 1.0) -> Tensor:
        """z (..., Z) from uniform noise (..., G) in (0, 1), straight-through; log probabilities are divided by tau."""
        probs = self.probs(stats)
        if tau != 1.0:
            probs = softmax(probs.log() / tau)
        below = probs.detach()[..., :-1].cumsum(-1)
        return self._through(self._hot((noise.unsqueeze(-1) > below).sum(-1)), probs)

    def kl(self, stats: Tensor, other: Tensor) -> Tensor:
        """KL divergence of `stats` from `other` in nats, summed over the groups: (...,)."""
        p = self.probs(stats)
        q = self.probs(other)
        return (p * (p.log() - q.log())).sum((-2, -1))

    def _hot(self, index: Tensor) -> Tensor:
        """float32 (..., C); unlike F.one_hot it asks no device's host for the range of `index`."""
        return (index.unsqueeze(-1) == torch.arange(self.classes, device=index.device)).float()

    def _through(self, hot: Tensor, soft: Tensor) -> Tensor:
        """`hot`, through which the gradient reaches `soft` (..., G, C); flat (..., Z)."""
        return (hot + soft - soft.detach() if soft.requires_grad else hot).flatten(-2)


class Gaussian:
    """Z independent Gaussians; the stats of a distribution are means and raw scales, (..., 2Z)."""

    def __init__(self, size: int) -> None:
        self.size = self.noise_size = size
        self.stats_size = 2 * size

    def center(self, stats: Tensor) -> Tensor:
        """The means (..., Z)."""
        return stats.float().chunk(2, -1)[0]

    mode = center

    def std(self, stats: Tensor) -> Tensor:
        """Standard deviations (..., Z), at least 0.1."""
        return F.softplus(stats.float().chunk(2, -1)[1]) + MIN_STD

    def sample(self, stats: Tensor, noise: Tensor, tau: float = 1.0) -> Tensor:
        """z (..., Z) from uniform noise (..., Z); standard deviations are multiplied by the root of tau."""
        return self.center(stats) + self.std(stats) * math.sqrt(tau) * normal(noise)

    def kl(self, stats: Tensor, other: Tensor) -> Tensor:
        """KL divergence of `stats` from `other` in nats, summed: (...,)."""
        mean = self.center(stats)
        std = self.std(stats)
        mean2 = self.center(other)
        std2 = self.std(other)
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
