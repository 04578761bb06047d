"""Cubes of space-time that are greyed out (HRSSM section 2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

GRID = 6  # cells per side: 64 // 10
BLOCK = 4  # frames
SPARED = GRID * GRID // 3  # cells of a block in which most moves


def cubes(length: int, ratio: float, side: int, generator: torch.Generator) -> Tensor:
    """What stays visible: float32 (length, side, side), 1 or 0, for all sequences of a batch alike.

    In each block of 4 frames the same round(ratio * 36) cells of a 6x6 grid are hidden, drawn anew for each block.
    """
    blocks = -(-length // BLOCK)
    return _visible(torch.rand(blocks, GRID * GRID, generator=generator), ratio, side)[:length]


def cubes_that_spare_motion(frames: Tensor, is_first: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """What stays visible of sequences (B, T, C, S, S), each with cubes of its own: float32 (B, T, S, S), 1 or 0.

    As many cells are hidden as of `cubes`, but the third of each block that changes most from frame to frame only after
    all others (ours: something small that matters would be hidden as often as any wall). `is_first` (B, T) is 1 where
    an episode begins, which is no motion.
    """
    length = frames.shape[1]
    moved = _pooled(_change(frames, is_first))
    luck = torch.rand(moved.shape, generator=generator).to(moved.device)
    spared = torch.zeros_like(luck).scatter_(2, moved.topk(SPARED, 2).indices, 1.0) * (moved > 0)
    return _visible(luck + spared, ratio, frames.shape[-1])[:, :length]


def _change(frames: Tensor, is_first: Tensor) -> Tensor:
    """How much each pixel differs from the frame before and from the one after, (B, T, S, S)."""
    steps = (frames[:, 1:] - frames[:, :-1]).abs().mean(2) * (1 - is_first[:, 1:, None, None].float())
    return F.pad(steps, (0, 0, 0, 0, 1, 0)) + F.pad(steps, (0, 0, 0, 0, 0, 1))


def _pooled(change: Tensor) -> Tensor:
    """Sums over the cells of each block, (B, blocks, 36), of (B, T, S, S)."""
    cell = F.one_hot(_cell(change.shape[-1]), GRID).to(change)
    cells = torch.einsum("bthw,hi,wj->btij", change, cell, cell).flatten(2)
    whole = F.pad(cells, (0, 0, 0, -cells.shape[1] % BLOCK))
    blocks: Tensor = whole.unflatten(1, (-1, BLOCK)).sum(2)
    return blocks


def _cell(side: int) -> Tensor:
    """The row or column of cells that each of `side` pixels lies in: cells of 10 or 11 pixels, by nearest neighbour."""
    return torch.arange(side) * GRID // side


def _visible(order: Tensor, ratio: float, side: int) -> Tensor:
    """(..., blocks * 4, side, side), where of each block's cells (..., blocks, 36) the lowest in `order` are hidden."""
    hidden = order.argsort(-1)[..., : round(ratio * GRID * GRID)]
    cells = torch.ones_like(order).scatter_(-1, hidden, 0.0).unflatten(-1, (GRID, GRID))
    cell = _cell(side).to(order.device)
    visible: Tensor = cells[..., cell, :][..., cell].repeat_interleave(BLOCK, -3)
    return visible
