"""An LSTM whose state is zeroed wherever an episode begins, written so that training is little more than its products.

torch's fused LSTM cannot forget in the middle of a sequence, and a loop of cells under autograd accumulates the
recurrent weight's gradient step by step; here that gradient is one matrix product at the end.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from worldmodels.models.fast.activations import tanh

sigmoid_backward = torch.ops.aten.sigmoid_backward
tanh_backward = torch.ops.aten.tanh_backward


def step_(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step, to the new h and c (B, H); `gates` are spoilt by it, as the name's last letter says in torch.

    Args:
        gates: float32 (B, 4H), pre-activations ordered input, forget, cell, output; overwritten unless a gradient is
            asked for, or the step is exported.
        c: (B, H), before; left as it is.
    """
    i, f, g, o = gates.chunk(4, -1)
    if gates.requires_grad or c.requires_grad or torch.compiler.is_exporting():
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * tanh(g)
        return torch.sigmoid(o) * tanh(c), c
    i.sigmoid_()
    f.sigmoid_()
    g.mul_(2).sigmoid_()
    o.sigmoid_()
    c = torch.mul(f, c).addcmul_(i, g, value=2).sub_(i)  # tanh(x) = 2 sigmoid(2x) - 1
    return torch.mul(c, 2).sigmoid_().mul_(o).mul_(2).sub_(o), c


def sequence(
    inputs: Tensor, weight: Tensor, keep: Tensor, h: Tensor, c: Tensor, world: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of a sequence.

    Args:
        inputs: (T, B, 4H), what the inputs and the bias contribute to the gates; products and outputs have its dtype.
        weight: (4H, H), recurrent.
        keep: (T, B, 1), 0 where an episode begins (h and c are zeroed before the step), else 1.
        h, c: (B, H), the state before; their dtype is that of all that is not a product.
        world: (B, H), what h is multiplied by before every step, in the dtype of h; None for 1.

    Returns:
        h of every step (T, B, H), and the last h and c.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Sequence.apply(  # type: ignore[no-untyped-call]
        inputs,
        weight,
        keep,
        h,
        c,
        world,
    )
    return found


class _Sequence(Function):
    """With a' for the sum that gate a is the sigmoid (g: the tanh) of, k for `keep`, w for `world`, and dx for the
    loss's gradient:

    forward    c_t = f (k c_{t-1}) + i g,  h_t = o tanh(c_t),  sums = inputs_t + W (k w h_{t-1})
    backward   dh_t = d outputs_t + k w W^T dsums_{t+1},   dc_t = k f_{t+1} dc_{t+1} + dh_t o (1 - tanh(c_t)^2)
               di' = dc g i(1-i),  df' = dc (k c_{t-1}) f(1-f),  dg' = dc i (1-g^2),  do' = dh tanh(c_t) o(1-o)
               dW = sum over t of dsums_t (k w h_{t-1})^T: one product at the end
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, keep: Tensor, h: Tensor, c: Tensor, world: Tensor | None
    ) -> Any:
        steps, rows, width = inputs.shape
        size = width // 4
        low = weight.to(inputs.dtype)
        # whether any episode begins at a step; asked once, for on a GPU the host waits for the answer
        begins = ctx.begins = (keep == 0).flatten(1).any(1).cpu().tolist()
        gates = c.new_empty(steps, rows, width)  # after their activations
        cs = c.new_empty(steps + 1, rows, size)
        outputs, h_before = (inputs.new_empty(steps, rows, size) for _ in range(2))
        cs[0] = c
        for t in range(steps):
            before = h if world is None else h * world
            h_before[t] = before * keep[t] if begins[t] else before
            gates[t] = torch.addmm(inputs[t], h_before[t], low.T)
            i, f, g, o = gates[t].split(size, -1)
            gates[t, :, : 2 * size].sigmoid_()
            g.copy_(tanh(g))
            o.sigmoid_()
            torch.mul(f, cs[t] * keep[t] if begins[t] else cs[t], out=cs[t + 1])
            cs[t + 1].addcmul_(i, g)
            h = tanh(cs[t + 1]).mul_(o)
            outputs[t] = h
        ctx.save_for_backward(weight, keep, gates, cs, h_before, world)
        return outputs, h, cs[-1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        weight, keep, gates, cs, h_before, world = ctx.saved_tensors
        d_outputs, d_h, d_last_c = grads
        d_c = d_last_c.clone()
        steps, rows, width = gates.shape
        size = width // 4
        low = weight.to(h_before.dtype)
        begins = ctx.begins
        d_gates = h_before.new_empty(steps, rows, width)
        now = torch.empty_like(gates[0])
        upstream = now.new_empty(rows, 2 * size)
        for t in reversed(range(steps)):
            i, f, g, o = gates[t].split(size, -1)
            squashed = tanh(cs[t + 1])
            d_h = d_h + d_outputs[t]
            d_c += tanh_backward(d_h * o, squashed)
            before = cs[t] * keep[t] if begins[t] else cs[t]
            torch.mul(d_c, g, out=upstream[:, :size])
            torch.mul(d_c, before, out=upstream[:, size:])
            now[:, : 2 * size] = sigmoid_backward(upstream, gates[t, :, : 2 * size])
            now[:, 2 * size : 3 * size] = tanh_backward(d_c * i, g)
            now[:, 3 * size :] = sigmoid_backward(d_h.mul_(squashed), o)
            d_gates[t] = now
            d_c *= f
            d_h = (d_gates[t] @ low).to(now.dtype)
            if world is not None:
                d_h *= world
            if begins[t]:
                d_c *= keep[t]
                d_h *= keep[t]
        d_weight = (d_gates.reshape(-1, width).T @ h_before.reshape(-1, size)).to(weight.dtype)
        return d_gates, d_weight, None, d_h, d_c, None
