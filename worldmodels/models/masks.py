"""Cubes of space-time that are greyed out (HRSSM section 2)."""

import torch
from torch import Tensor

GRID = 6  # cells per side: 64 // 10
BLOCK = 4  # frames


def cubes(length: int, ratio: float, side: int, generator: torch.Generator) -> Tensor:
    """What stays visible: float32 (length, side, side), 1 or 0, for all sequences of a batch alike.

    In each block of 4 frames the same round(ratio * 36) cells of a 6x6 grid are hidden, drawn anew for each block.
    """
    blocks = -(-length // BLOCK)
    hidden = round(ratio * GRID * GRID)
    order = torch.rand(blocks, GRID * GRID, generator=generator).argsort(1)
    cells = torch.ones(blocks, GRID * GRID).scatter_(1, order[:, :hidden], 0.0).unflatten(1, (GRID, GRID))
    cell = torch.arange(side) * GRID // side  # nearest neighbour: cells of 10 or 11 pixels
    visible: Tensor = cells[:, cell][:, :, cell].repeat_interleave(BLOCK, 0)
    return visible[:length]
