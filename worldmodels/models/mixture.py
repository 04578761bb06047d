"""Mixtures of Gaussians, one for each dimension of a code (CLASSIC 1.4, 2.7; paper, appendix A.2)."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from worldmodels.models.codes import normal

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
BLOCK = 128  # rows whose intermediate results stay in a processor's cache


def nll(out: Tensor, target: Tensor, components: int) -> Tensor:
    """-log p(target) in nats per dimension, of shape (...,), for a network's output (..., 3KZ) and a target (..., Z).

    Gradients flow to `out` only. They are computed along with the value, block by block, in half the time that autograd
    would take.
    """
    rows: Tensor = _NLL.apply(  # type: ignore[no-untyped-call]
        out.flatten(0, -2),
        target.flatten(0, -2).detach(),
        components,
    )
    found: Tensor = rows.unflatten(0, target.shape[:-1])
    return found


def sample(out: Tensor, noise: Tensor, tau: float, components: int) -> Tensor:
    """The next code at temperature tau: component ~ softmax(logpi / tau), then mu + sigma sqrt(tau) eps (CLASSIC 2.7).

    Args:
        out: a network's output (B, 3KZ).
        noise: uniform (B, 2Z); its first half chooses components, its second half becomes eps.
        tau: above 0.
    """
    choice, eps = noise.chunk(2, -1)
    logits, mus, logstds = split(out.to(noise.dtype), components)
    weights = (logits - logits.amax(1, keepdim=True)).div_(tau).exp_()
    left = choice * weights.sum(1)
    mu = mus[:, 0]
    logstd = logstds[:, 0]
    for k in range(1, components):  # on as long as the choice lies beyond the components so far
        left = left - weights[:, k - 1]
        beyond = left.sign().clamp_(0)  # 0 or 1; with lerp several times as fast as a comparison and where
        mu = mu.lerp(mus[:, k], beyond)
        logstd = logstd.lerp(logstds[:, k], beyond)
    return mu + logstd.exp() * math.sqrt(tau) * normal(eps)


def split(out: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, means and log standard deviations of every component, (..., K, Z) each."""
    logits, mu, logstd = out.unflatten(-1, (3, components, -1)).unbind(-3)
    return logits, mu, logstd


class _NLL(Function):
    """With pi for the shares of the components (softmax of the logits) and r for those given the target (softmax of
    log pi + log density), the gradients of -log sum_k pi_k N(y; mu_k, s_k), in mean over Z dimensions, are

        d logit = (pi - r) / Z,   d mu = -r (y - mu) / s^2 / Z,   d log s = r (1 - ((y - mu) / s)^2) / Z
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, target: Tensor, components: int) -> Tensor:
        total = target.new_empty(len(out))
        grad = torch.empty_like(out)
        block = BLOCK if out.device.type == "cpu" else len(out)
        for rows in (slice(i, i + block) for i in range(0, len(out), block)):
            shown = out[rows].to(target.dtype)
            logits, mu, logstd = split(shown, components)
            prior, log_total = _shares(logits)
            precision = (-logstd).exp()
            scaled = (target[rows].unsqueeze(-2) - mu).mul_(precision)
            log_density = torch.addcmul(logits - log_total - logstd, scaled, scaled, value=-0.5)
            share, density = _shares(log_density)  # each component's, of the probability
            total[rows] = HALF_LOG_2PI - density.mean((-2, -1))
            share.div_(target.shape[-1])
            d_logits, d_mu, d_logstd = split(grad[rows], components)
            d_logits.copy_(torch.sub(prior.div_(target.shape[-1]), share))
            d_mu.copy_((share * scaled).mul_(precision).neg_())
            d_logstd.copy_(torch.addcmul(share, share, scaled.square_(), value=-1))
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].unsqueeze(-1).to(grad.dtype), None, None


def _shares(logs: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over components (rows, K, Z), and the logarithm of what it was divided by (rows, 1, Z)."""
    highest = logs.amax(1, keepdim=True)
    powers = (logs - highest).exp_()
    total = powers.sum(1, keepdim=True)
    return powers.div_(total), highest + total.log()
