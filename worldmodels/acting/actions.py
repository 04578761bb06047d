"""How an actor's outputs become actions: numbers about a mean, or one of some choices (HRSSM 4).

Outputs are called stats, as those of a latent are (models/latent.py). Noise comes from outside, uniform in (0, 1).
"""

import math

import torch
from torch import Tensor, nn

from worldmodels.models.codes import normal

LEAST_STD = 0.1
MOST_STD = 1.0
UNIMIX = 0.01


class Numbers:
    """A numbers, each from a Gaussian of its own whose mean is within (-1, 1).

    Stats are (..., 2A): m and r, of mean tanh(m) and standard deviation 0.9 sigmoid(r + 2) + 0.1.

    Args:
        size: A.
    """

    def __init__(self, size: int) -> None:
        self.size = self.noise_size = size
        self.stats_size = 2 * size

    def mean(self, stats: Tensor) -> Tensor:
        """(..., A)."""
        return torch.tanh(stats.chunk(2, -1)[0])

    best = mean

    def std(self, stats: Tensor) -> Tensor:
        """(..., A)."""
        return (MOST_STD - LEAST_STD) * torch.sigmoid(stats.chunk(2, -1)[1] + 2) + LEAST_STD

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """Actions (..., A) from uniform noise (..., A), through which the gradient reaches the stats."""
        return self.mean(stats) + self.std(stats) * normal(noise)

    def entropy(self, stats: Tensor) -> Tensor:
        """Of the Gaussians, in nats (...,)."""
        return (self.std(stats).log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def log_prob(self, stats: Tensor, action: Tensor) -> Tensor:
        """Log density (...,) of actions (..., A)."""
        scaled = (action - self.mean(stats)) / self.std(stats)
        return (-0.5 * scaled**2 - self.std(stats).log() - 0.5 * math.log(2 * math.pi)).sum(-1)


class Choices(nn.Module):
    """One of n actions; each has a probability of at least 1 % / n. Stats are raw logits (..., n).

    A module, so that its actions lie where an actor computes; it has no weights.

    Args:
        actions: (n, A), the actions to choose from.
    """

    _actions: Tensor

    def __init__(self, actions: tuple[tuple[float, ...], ...]) -> None:
        super().__init__()
        self.register_buffer("_actions", torch.tensor(actions, dtype=torch.float32), persistent=False)
        self.stats_size = len(actions)
        self.noise_size = 1

    def probs(self, stats: Tensor) -> Tensor:
        """(..., n)."""
        return (1 - UNIMIX) * torch.softmax(stats, -1) + UNIMIX / self.stats_size

    def best(self, stats: Tensor) -> Tensor:
        """The likeliest action (..., A)."""
        return self._of(stats.argmax(-1))

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """Actions (..., A) from uniform noise (..., 1); no gradient passes a choice."""
        below = self.probs(stats.detach())[..., :-1].cumsum(-1)
        return self._of((noise > below).sum(-1))

    def entropy(self, stats: Tensor) -> Tensor:
        """In nats (...,)."""
        probs = self.probs(stats)
        return -(probs * probs.log()).sum(-1)

    def log_prob(self, stats: Tensor, action: Tensor) -> Tensor:
        """Log probability (...,) of chosen actions (..., A)."""
        apart = (action.unsqueeze(-2) - self._actions).abs().sum(-1)
        return self.probs(stats).log().gather(-1, apart.argmin(-1, keepdim=True)).squeeze(-1)

    def _of(self, index: Tensor) -> Tensor:
        return self._actions[index]


Actions = Numbers | Choices


def bounded(action: Tensor) -> Tensor:
    """Actions in [-1, 1], as everyone takes them; beyond, the gradient is scaled as they are, and does not end."""
    return action / action.detach().abs().clamp_min(1)
