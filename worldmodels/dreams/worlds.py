"""Dropout worlds: dreams each of which is a world of its own, fixed and slightly wrong (Wellmer & Kwok 2021, Dropout's
Dream Land). In each a part of z and h is hidden from M, the same numbers from its beginning to its end; what C learns
in all of them holds in more than what M believes.
"""

import torch
from torch import Tensor

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import rng
from worldmodels.models.base import WORLD, State, WorldModel, hiding


def check_worlds(model: WorldModel, dropout: float) -> None:
    """Raises UserError if M cannot stand that a share of what it is shown is hidden."""
    if dropout and not model.worlds:
        raise UserError(
            f"--dream-dropout {dropout:g}: M was not trained with --dropout; train it anew with that, or leave this out"
        )


def in_world(state: State, dropout: float, uniform: Tensor) -> State:
    """A state (B, ...) whose rows each are in a dropout world of their own.

    Args:
        state: of a model that has worlds.
        dropout: share of z and h that is hidden.
        uniform: float32 (B, model.worlds) in (0, 1).
    """
    return state | {WORLD: hiding(dropout, uniform)}


def luck_of(model: WorldModel, seeds: list[int]) -> Tensor:
    """Numbers that decide the world of each seed, float32 (B, model.worlds), the same for all who dream that."""
    drawn = [torch.from_numpy(rng(seed, "world").random(model.worlds, "float32")) for seed in seeds]
    return torch.stack(drawn).to(model.starts.device)
