"""An LSTM whose state is zeroed wherever an episode begins, written so that training is little more than its products.

torch's fused LSTM cannot forget in the middle of a sequence, and a loop of cells under autograd accumulates the
recurrent weight's gradient step by step; here that gradient is one matrix product at the end.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step from pre-activations (B, 4H), ordered input, forget, cell, output, and c (B, H), to the new h and c."""
    i, f, g, o = gates.float().chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def sequence(
    inputs: Tensor, weight: Tensor, keep: Tensor, h: Tensor, c: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of a sequence.

    Args:
        inputs: (T, B, 4H), what the inputs and the bias contribute to the gates.
        weight: (4H, H), recurrent.
        keep: (T, B, 1), 0 where an episode begins (h and c are zeroed before the step), else 1.
        h, c: (B, H), the state before.
        dtype: of the matrix products; everything else keeps the dtype of `inputs`.

    Returns:
        h of every step (T, B, H), and the last h and c.
    """
    outputs, last_c = _Sequence.apply(inputs, weight, keep, h, c, dtype)
    return outputs, outputs[-1], last_c


class _Sequence(Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, keep: Tensor, h: Tensor, c: Tensor, dtype: Any) -> Any:
        steps, rows, width = inputs.shape
        size = width // 4
        low = weight.to(dtype)
        gates = torch.empty_like(inputs)  # after their activations
        hs, cs, tanhs = (inputs.new_empty(steps + 1, rows, size) for _ in range(3))
        h_before = inputs.new_empty(steps, rows, size, dtype=dtype)
        hs[0], cs[0] = h, c
        for t in range(steps):
            h_before[t] = hs[t] * keep[t]
            torch.add(inputs[t], h_before[t] @ low.T, out=gates[t])
            i, f, g, o = gates[t].split(size, -1)
            gates[t, :, : 2 * size].sigmoid_(), g.tanh_(), o.sigmoid_()
            torch.addcmul(f * (cs[t] * keep[t]), i, g, out=cs[t + 1])
            torch.tanh(cs[t + 1], out=tanhs[t])
            torch.mul(o, tanhs[t], out=hs[t + 1])
        ctx.save_for_backward(weight, keep, gates, cs, tanhs, h_before)
        ctx.dtype = dtype
        return hs[1:], cs[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        weight, keep, gates, cs, tanhs, h_before = ctx.saved_tensors
        d_hs, d_c = grads[0], grads[1].clone()
        steps, width = len(gates), gates.shape[-1]
        size = width // 4
        low = weight.to(ctx.dtype)
        d_gates = torch.empty_like(gates)
        d_h = torch.zeros_like(d_c)
        for t in reversed(range(steps)):
            i, f, g, o = gates[t].split(size, -1)
            d_i, d_f, d_g, d_o = d_gates[t].split(size, -1)
            d_h = d_h + d_hs[t]
            d_c = d_c + d_h * o * (1 - tanhs[t] ** 2)
            torch.mul(d_h * tanhs[t], o * (1 - o), out=d_o)
            torch.mul(d_c * g, i * (1 - i), out=d_i)
            torch.mul(d_c * i, 1 - g**2, out=d_g)
            torch.mul(d_c * (cs[t] * keep[t]), f * (1 - f), out=d_f)
            d_c = d_c * f * keep[t]
            d_h = (d_gates[t].to(ctx.dtype) @ low).to(gates.dtype) * keep[t]
        flat = d_gates.reshape(-1, width).to(ctx.dtype)
        d_weight = (flat.T @ h_before.reshape(-1, size)).to(weight.dtype)
        return d_gates, d_weight, None, d_h, d_c, None
