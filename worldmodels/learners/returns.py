"""What is worth how much: by what it pays, and what a critic expects beyond (HRSSM 4). Time comes first: (T, ...).

State 0 is where it begins, r_t was paid on arriving at state t, and d_t is the discount of all that comes after.
"""

import torch
from torch import Tensor

SHARES = (0.05, 0.95)  # the quantiles of returns that their scale lies between
RATE = 0.01  # of the moving average of these
LEAST = 1.0


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    """R_t = r_{t+1} + d_{t+1} ((1 - lambda) v_{t+1} + lambda R_{t+1}), where the last R is the last v.

    Args:
        reward: r_1 .. r_T, (T, ...).
        discount: d_1 .. d_T, (T, ...).
        value: v_1 .. v_T, (T, ...).
        lambda_: 0 trusts the critic after one step, 1 only at the end.

    Returns:
        R_0 .. R_{T-1}, (T, ...).
    """
    following = value[-1]
    returns = []
    for t in reversed(range(len(reward))):
        following = reward[t] + discount[t] * ((1 - lambda_) * value[t] + lambda_ * following)
        returns.append(following)
    return torch.stack(returns[::-1])


def advantages(
    reward: Tensor, discount: Tensor, value: Tensor, following: Tensor, cut: Tensor, lambda_: float
) -> Tensor:
    """By how much what came of a decision was better than expected (GAE, Schulman et al. 2016, equation 16).

    A_t = e_t + lambda d_t (1 - cut_t) A_{t+1}, where e_t = r_t + d_t v'_t - v_t; nothing comes after the last.

    Args:
        reward: r, (T, ...).
        discount: d, (T, ...), of all that comes after.
        value: v, (T, ...), of the states in which was decided.
        following: v', (T, ...), of those that it led to.
        cut: 1 where the next decision is in another dream or episode, (T, ...).
        lambda_: 0 trusts the critic after one decision, 1 only where what came is cut.

    Returns:
        A, (T, ...).
    """
    surprise = reward + discount * following - value
    after = torch.zeros_like(surprise[0])
    found = []
    for t in reversed(range(len(surprise))):
        after = surprise[t] + lambda_ * discount[t] * (1 - cut[t]) * after
        found.append(after)
    return torch.stack(found[::-1])


def weights(discount: Tensor) -> Tensor:
    """How likely a dream still lasts, discounted: w_0 = 1, w_t = d_0 .. d_{t-1}; detached.

    Args:
        discount: d_0 .. d_{T-1}, (T, ...).

    Returns:
        w_0 .. w_{T-1}, (T, ...).
    """
    before = torch.cat([torch.ones_like(discount[:1]), discount[:-1]])
    return before.cumprod(0).detach()


class Scale:
    """How far apart returns are: a moving average of two quantiles, from zero.

    Attributes:
        quantiles: float32 (2,), the averages.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.quantiles = torch.zeros(2, device=device)

    def update(self, returns: Tensor) -> Tensor:
        """The scale, at least 1, once these returns have been looked at, too; of shape ()."""
        now = torch.quantile(returns.detach().flatten().float(), self.quantiles.new_tensor(SHARES))
        self.quantiles = RATE * now + (1 - RATE) * self.quantiles
        return (self.quantiles[1] - self.quantiles[0]).clamp_min(LEAST)
