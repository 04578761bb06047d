"""A gradient step, ours and as one would write it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from worldmodels.core.device import CPU, autocast


def update(module: Any, batch: dict[str, Tensor]) -> Callable[[], None]:
    """As the training loop's: bf16 where it is fast, Adam in one pass."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)

    def step() -> None:
        with autocast(CPU, "auto"):
            loss, _, _ = module.loss(batch, {}, torch.Generator().manual_seed(0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def plain_update(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """fp32 and torch's usual Adam."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
