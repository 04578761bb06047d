"""What an actor and a critic are trained by (HRSSM 4). Time comes first: (T, B, ...), a row for each
decision; PPO shuffles decisions: (B,)."""

import torch
from torch import Tensor

from worldmodels.acting.actions import Actions, Choices
from worldmodels.models.heads import RewardHead


def actor_loss(
    actions: Actions,
    stats: Tensor,
    action: Tensor,
    returns: Tensor,
    value: Tensor,
    weight: Tensor,
    scale: Tensor,
    entropy: float,
) -> Tensor:
    """-mean w_t [(R_t - v_t) / S + entropy's worth]: the gradient runs through R and v into the actions.

    Of choices, through which none passes: log pi(a_t) (R_t - v_t), where R and v are constants, instead of the first
    part (REINFORCE; not divided by S, as the authors).

    Args:
        actions: of the actor.
        stats: (T, B, D), of its actions.
        action: (T, B, A), what it did.
        returns: R, (T, B).
        value: v, (T, B), of the states in which it did so.
        weight: w, (T, B).
        scale: S, ().
        entropy: what a nat of entropy is worth.
    """
    advantage = returns - value
    if isinstance(actions, Choices):
        aim = actions.log_prob(stats, action.detach()) * advantage.detach()
    else:
        aim = advantage / scale
    return -(weight * (aim + entropy * actions.entropy(stats))).mean()


def near_loss(log_prob: Tensor, before: Tensor, gain: Tensor, near: float) -> Tensor:
    """-mean min(q A, clip(q, 1 - near, 1 + near) A), where q is by how much likelier a decision has become: once it has
    gone that far, nothing more is gained by it (PPO, Schulman et al. 2017, equation 7).

    Args:
        log_prob: of decisions (B,), now.
        before: of the same when they were made.
        gain: (B,); A is that less its mean, over its standard deviation, as is usual.
        near: how far a decision's likelihood may move.
    """
    scaled = (gain - gain.mean()) / (gain.std(correction=0) + 1e-8)  # of one alone, too
    ratio = (log_prob - before).exp()
    return -torch.minimum(ratio * scaled, ratio.clamp(1 - near, 1 + near) * scaled).mean()


def critic_loss(critic: RewardHead, feat: Tensor, returns: Tensor, slow: Tensor, weight: Tensor) -> Tensor:
    """mean w_t [-log p(R_t) - log p(v'_t)]: it is to expect the returns, and not to run away from its slow copy.

    Args:
        critic: a distribution over values, two-hot in symlog.
        feat: (T, B, F).
        returns: R, (T, B).
        slow: v', (T, B), what the slow copy expects.
        weight: w, (T, B).
    """
    return (weight * critic.loss(feat.detach(), returns.detach(), slow.detach())).mean()
