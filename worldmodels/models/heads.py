"""Small networks that read features: multi-layer perceptrons, and Dreamer's two-hot reward (HRSSM 1.3), which is its
critic, too."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3
BINS = 255
LIMIT = 20.0
UNLIKELY = 5.0  # nats by which values that were never met are less likely than the nearest that was


class Dense(nn.Module):
    """Linear without bias, LayerNorm, SiLU: the block that everything in an RSSM is built of."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units, bias=False)
        self.norm = nn.LayerNorm(units, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(x))

    def act(self, x: Tensor) -> Tensor:
        """What follows the linear layer, for those who sum its inputs' shares themselves."""
        return F.silu(self.norm(x))


def mlp(inputs: int, units: int, layers: int, outputs: int, zero: bool = False) -> nn.Sequential:
    """`layers` Dense blocks and a linear layer; `zero` starts it with outputs of 0."""
    blocks = [Dense(inputs if i == 0 else units, units) for i in range(layers)]
    last = nn.Linear(units if layers else inputs, outputs)
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*blocks, last)


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of symlog."""
    return x.sign() * x.abs().expm1()


def within(x: Tensor, low: float, high: float) -> Tensor:
    """x clipped to [low, high]; the gradient passes as if it were not, else nothing could lead back from outside."""
    clipped = x.clamp(low, high)
    return x + (clipped - x).detach() if x.requires_grad else clipped


class RewardHead(nn.Module):
    """A distribution over 255 values, evenly spaced in symlog; starts uniform.

    Args:
        inputs: F.
        units, layers: of the network.
        reward_range: lowest and highest reward of the data, which the values then span. None: symlog from -20 to 20,
            as the authors; rewards that differ by a few hundredths then share two bins, and hardly teach.
    """

    bins: Tensor

    def __init__(self, inputs: int, units: int, layers: int, reward_range: Sequence[float] | None = None) -> None:
        super().__init__()
        self.net = mlp(inputs, units, layers, BINS, zero=True)
        low = -LIMIT
        high = LIMIT
        if reward_range is not None:
            low, high = symlog(torch.tensor(reward_range, device="cpu")).tolist()
            high = max(high, low + 1e-3)  # a constant reward has no range
        self.register_buffer("bins", torch.linspace(low, high, BINS), persistent=False)

    @torch.no_grad()
    def take_over(self, other: "RewardHead") -> None:
        """Begins with the weights of another, whose values may span another range: each value has the weights of the
        nearest there, and those beyond are unlikely at first."""
        self.load_state_dict(other.state_dict())
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        at = (self.bins - other.bins[0]) / (other.bins[-1] - other.bins[0]) * (BINS - 1)
        nearest = at.round().clamp(0, BINS - 1).long()
        beyond = (at < -0.5) | (at > BINS - 0.5)
        last.weight.copy_(last.weight[nearest])
        last.bias.copy_(last.bias[nearest] - UNLIKELY * beyond)

    def forward(self, feat: Tensor) -> Tensor:
        """The expected reward (...,) after features (..., F)."""
        probs = torch.softmax(self.net(feat).float(), -1)
        return self._told((probs * self.bins).sum(-1))

    def loss(self, feat: Tensor, reward: Tensor, *others: Tensor) -> Tensor:
        """Cross-entropy with the two bins beside the reward, (...,); with those of `others` added, if there are."""
        wanted = two_hot(self._among_bins(reward.float()), self.bins)
        for other in others:
            wanted = wanted + two_hot(self._among_bins(other.float()), self.bins)
        return -(wanted * F.log_softmax(self.net(feat).float(), -1)).sum(-1)

    def _among_bins(self, reward: Tensor) -> Tensor:
        """Where a reward lies on the line of bins."""
        return symlog(reward)

    def _told(self, mean: Tensor) -> Tensor:
        """The reward that a place on that line stands for."""
        return symexp(mean)


class ValueHead(RewardHead):
    """The same, whose value is the mean of what it holds likely (DreamerV3, Hafner et al. 2025: symexp two-hot).

    The mean of symlogs is nearer to 0 than that wherever returns differ, the more so the more they do.
    """

    def __init__(self, inputs: int, units: int, layers: int) -> None:
        super().__init__(inputs, units, layers)
        self.bins = symexp(self.bins)

    def _among_bins(self, reward: Tensor) -> Tensor:
        return reward

    def _told(self, mean: Tensor) -> Tensor:
        return mean


def two_hot(x: Tensor, bins: Tensor) -> Tensor:
    """x (...,) as weights (..., N) on the two bins beside it, whose weighted mean is x (clipped to the bins' range)."""
    x = x.clamp(bins[0], bins[-1])
    above = torch.searchsorted(bins, x).clamp(1, len(bins) - 1)
    low = bins[above - 1]
    high = bins[above]
    share = (x - low) / (high - low)
    weights = torch.zeros(*x.shape, len(bins), dtype=x.dtype, device=x.device)
    weights.scatter_(-1, (above - 1).unsqueeze(-1), (1 - share).unsqueeze(-1))
    return weights.scatter_(-1, above.unsqueeze(-1), share.unsqueeze(-1))


def end_loss(logit: Tensor, ended: Tensor, weight: float) -> Tensor:
    """Cross-entropy of predicted ends (...,), in mean; steps that did end (`ended` = 1) weigh `weight` times."""
    return F.binary_cross_entropy_with_logits(logit, ended, 1 + (weight - 1) * ended)


def end_of(logit: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """A predicted end's calibrated probability, and the model's decision whether it comes.

    Ends weighed more in training (`end_loss`), so their odds are too high by that weight; the paper decides by them.
    """
    return torch.sigmoid(logit - math.log(weight)), logit > 0
