"""Mixtures of Gaussians, one for each dimension of a code (CLASSIC 1.4, 2.7; paper, appendix A.2)."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from worldmodels.models.base import normal

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
BLOCK = 128  # rows whose intermediate results stay in a processor's cache


class Mixture(NamedTuple):
    """Every code dimension has K Gaussians of its own."""

    logpi: Tensor  # (..., K, Z), log weights, normalised over K
    mu: Tensor  # (..., K, Z)
    logstd: Tensor  # (..., K, Z)


def mixture(out: Tensor, components: int) -> Mixture:
    """A network's output (..., 3KZ) as mixtures."""
    logits, mu, logstd = out.unflatten(-1, (3, components, -1)).unbind(-3)
    return Mixture(logits - logits.logsumexp(-2, keepdim=True), mu, logstd)


def nll(out: Tensor, target: Tensor, components: int) -> Tensor:
    """-log p(target) in nats per dimension, of shape (...,), for a network's output (..., 3KZ) and a target (..., Z).

    Gradients flow to `out` only. They are computed along with the value, block by block: written as usual, this loss
    takes as long as the products of the network before it.
    """
    rows = _NLL.apply(out.flatten(0, -2), target.flatten(0, -2).detach(), components)
    return rows.unflatten(0, target.shape[:-1])


def sample(expected: Mixture, noise: Tensor, tau: float) -> Tensor:
    """The next code at temperature tau: component ~ softmax(logpi / tau), then mu + sigma sqrt(tau) eps (CLASSIC 2.7).

    Args:
        expected: of B rows.
        noise: uniform (B, 2Z); its first half chooses components, its second half becomes eps.
        tau: above 0.
    """
    choice, eps = noise.chunk(2, -1)
    weights = torch.softmax(expected.logpi / tau, -2)
    below = weights[..., :-1, :].cumsum(-2)  # (B, K-1, Z)
    component = (choice.unsqueeze(-2) > below).sum(-2, keepdim=True)  # (B, 1, Z)
    mu = expected.mu.gather(-2, component).squeeze(-2)
    logstd = expected.logstd.gather(-2, component).squeeze(-2)
    return mu + logstd.exp() * math.sqrt(tau) * normal(eps)


class _NLL(Function):
    @staticmethod
    def forward(ctx: Any, out: Tensor, target: Tensor, components: int) -> Tensor:
        total = target.new_empty(len(out))
        grad = torch.empty_like(out)
        block = BLOCK if out.device.type == "cpu" else len(out)
        for rows in (slice(i, i + block) for i in range(0, len(out), block)):
            shown = out[rows].to(target.dtype)
            logpi, mu, logstd = mixture(shown, components)
            precision = (-logstd).exp()
            scaled = (target[rows].unsqueeze(-2) - mu) * precision
            log_density = torch.addcmul(logpi - logstd, scaled, scaled, value=-0.5)
            density = log_density.logsumexp(-2, keepdim=True)
            total[rows] = HALF_LOG_2PI - density.mean((-2, -1))
            share = (log_density - density).exp_().div_(target.shape[-1])  # each component's, of the probability
            parts = grad[rows].unflatten(-1, (3, components, -1))
            parts[:, 0] = torch.sub(logpi.exp_().div_(target.shape[-1]), share)
            parts[:, 1] = (share * scaled).mul_(precision).neg_()
            parts[:, 2] = torch.addcmul(share, share, scaled.square_(), value=-1)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].unsqueeze(-1).to(grad.dtype), None, None
