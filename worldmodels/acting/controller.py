"""C: about a thousand numbers that turn features into an action. A whole population acts at once."""

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor


class Acts(Protocol):
    """What a C is to whoever lets it act: a Controller, or an Actor (actor.py)."""

    num_params: int  # D

    def given(self, params: Tensor) -> Tensor:
        """What rows of a batch are to be given (P, G) to act by each of P sets of numbers, `params` (P, D)."""
        ...

    def act(self, given: Tensor, feat: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] of B rows that were given `given` (B, G), and see `feat` (B, F)."""
        ...


class Controller:
    """Linear, or with one hidden layer of tanh units (the paper's ablation); the output is squashed by tanh.

    It holds no numbers itself: every row brings its own. The layout of `params` is the authors'
    (CLASSIC 1.5): per layer first the biases, then the weights with one row per input.

    Args:
        feat_size: F.
        action_size: A.
        hidden_size: units between; 0 for a linear controller.
        bias: whether a linear controller has a bias; a hidden layer always does.
    """

    def __init__(self, feat_size: int, action_size: int, hidden_size: int = 0, bias: bool = True) -> None:
        sizes = [feat_size, hidden_size, action_size] if hidden_size else [feat_size, action_size]
        self.feat_size = feat_size
        self.action_size = action_size
        self.bias = bias or hidden_size > 0
        self._layers = list(pairwise(sizes))
        self.num_params = sum(inputs * outputs + self.bias * outputs for inputs, outputs in self._layers)

    def given(self, params: Tensor) -> Tensor:
        """Each row brings its own numbers."""
        return params

    def act(self, params: Tensor, feat: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] of B rows with `params` (B, D) that see `feat` (B, F)."""
        x = feat
        used = 0
        for inputs, outputs in self._layers:
            bias: Tensor | float = 0.0
            if self.bias:
                bias = params[:, used : used + outputs]
                used += outputs
            weight = params[:, used : used + inputs * outputs].unflatten(1, (inputs, outputs))
            used += inputs * outputs
            if outputs == 1:  # Doom: a batched product would be many times slower than this row-wise one
                x = (x * weight[..., 0]).sum(1, keepdim=True)
            else:
                x = torch.einsum("bf,bfa->ba", x, weight)
            x = torch.tanh(x + bias)
        return x
