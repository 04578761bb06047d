"""Dropout worlds: dreams each of which is a world of its own, fixed and slightly wrong (Wellmer & Kwok 2021, Dropout's
Dream Land). In each a part of z and h is hidden from M, the same numbers from its beginning to its end; what C learns
in all of them holds in more than what M believes.
"""

import torch
from torch import Tensor

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import rng
from worldmodels.models.base import WorldModel, hiding


def check_worlds(model: WorldModel, dropout: float) -> None:
    """Raises UserError if M cannot stand that a share of what it is shown is hidden."""
    if dropout and not model.worlds:
        raise UserError(
            f"--dream-dropout {dropout:g}: M was not trained with --dropout; train it anew with that, or leave this out"
        )


def worlds_of(model: WorldModel, dropout: float, seeds: list[int]) -> Tensor:
    """The dropout world of each seed, float32 (B, model.worlds), the same for all who dream that."""
    drawn = [torch.from_numpy(rng(seed, "world").random(model.worlds, "float32")) for seed in seeds]
    return hiding(dropout, torch.stack(drawn)).to(model.starts.device)
