"""Bisimulation: states are alike as far as they are paid alike and lead to states that are alike (HRSSM 3.4).

`paper` is the published loss. Its fixed point |r - r'| + 0.99 D' exceeds what a cosine distance can be, so it acts as a
saturating repulsion; where every living step is paid alike it pulls everything together; terminals do not count.
`mended` weighs reward against future as a metric must, (1 - g) R + g D', with R in [0, 1]: the difference of rewards,
in units of the range that most of the data's lie in, or 1 where one state is terminal and the other is not. A terminal
state is followed by itself, for ever. Where a time limit cut an episode, nobody knows what follows, and nothing is
asked.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

DISCOUNT = 0.99  # HRSSM's own, separate from an agent's
WIDE = 4.0  # standard deviations by which returns differ as much as can be
MENDED_DISCOUNT = 0.9  # at 0.99 what is paid now weighs 1 %, less than the noise of sampled latents


def loss(
    online: Tensor,
    target: Tensor,
    online_next: Tensor,
    target_next: Tensor,
    reward: Tensor,
    terminated: Tensor,
    ends: Tensor,
    form: str,
    usual_rewards: Sequence[float] = (0.0, 1.0),
    ahead: Tensor | None = None,
) -> Tensor:
    """Huber loss between the cosine distances of all pairs and what bisimulation says they should be.

    Args:
        online: (N, F) features of the masked branch; the only way for gradients.
        target: (N, F) features of the raw branch at the same steps.
        online_next, target_next: (N, F) what each branch expects one step later.
        reward: (N,) received on arriving at the state.
        terminated: (N,) 1 where the state is terminal.
        ends: (N,) 1 where what comes next belongs to another episode (terminal states, and truncated ones).
        form: "paper" or "mended".
        usual_rewards: the range that most rewards lie in, for "mended"; beyond it a difference counts no more.
        ahead: (N, K) what will be paid over K horizons, in standard deviations, to be compared in place of rewards, for
            "mended"; of pairs that have no number in common nothing is asked.
    """
    distance = _distance(online, target.detach())
    if form == "paper":
        with torch.no_grad():
            wanted = _differences(reward) + DISCOUNT * _distance(online_next, target_next)
        return F.huber_loss(distance, wanted)
    with torch.no_grad():
        stays = terminated[:, None]
        following = _distance(torch.lerp(online_next, online, stays), torch.lerp(target_next, target, stays))
        if ahead is None:
            low, high = usual_rewards
            paid = _differences(((reward - low) / max(high - low, 1e-6)).clamp(0, 1))
        else:
            apart = (ahead[:, None] - ahead[None]).abs()
            told = ~apart.isnan()
            paid = (apart.nan_to_num().sum(-1) / told.sum(-1).clamp_min(1) / WIDE).clamp_max(1)
        now = torch.maximum(paid, _differences(terminated))
        wanted = (1 - MENDED_DISCOUNT) * now + MENDED_DISCOUNT * following
        known = 1 - ends * (1 - terminated)
        pairs = known[:, None] * known[None]
        if ahead is not None:
            pairs = pairs * told.any(-1)
    return (F.huber_loss(distance, wanted, reduction="none") * pairs).sum() / pairs.sum().clamp_min(1)


def reconstruction(online: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, 2 - 2 cos, in mean: pulls the masked branch to the raw one (HRSSM 3.3)."""
    return (_unit(online) - _unit(target.detach())).square().sum(-1).mean()


def _differences(x: Tensor) -> Tensor:
    """|x - x'| of every pair: (N, N)."""
    return (x[:, None] - x[None]).abs()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine of every pair: (N, M). In fp32: near 0, bf16 would know steps of 1/256 only."""
    with torch.autocast(a.device.type, enabled=False):
        return 1 - _unit(a) @ _unit(b).T


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1, eps=1e-3)
