"""Dreams each of which is a world of its own, from its beginning to its end: what C learns in all of them holds in more
than what one M believes.

Dropout worlds are fixed and slightly wrong (Wellmer & Kwok 2021, Dropout's Dream Land): in each a part of z and h is
hidden from M, the same numbers throughout. In an ensemble each dream is that of one member, which expects what follows
in its own way (Chua et al. 2018, arXiv 1805.12114, TS-infinity).
"""

import torch
from torch import Tensor

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import rng
from worldmodels.models.base import MEMBER, WORLD, State, WorldModel, hiding


def check_worlds(model: WorldModel, dropout: float, member: int | None = None) -> None:
    """Raises UserError if M cannot stand that a share of what it is shown is hidden, or has no such member."""
    if member is not None and not 0 <= member < model.members:
        raise UserError(f"member {member} is not among the {model.members} that this M has, from 0 on")
    if dropout and not model.worlds:
        raise UserError(
            f"--dream-dropout {dropout:g}: M was not trained with --dropout; train it anew with that, or leave this out"
        )


def worlds_of(model: WorldModel, seeds: list[int], dropout: float, member: int | None = None) -> State:
    """The world of each seed, the same for all who dream that, as parts of a state of B rows: empty if it is M's own.

    Args:
        model: what dreams.
        seeds: B of them.
        dropout: share of z and h that is hidden.
        member: of an ensemble, whose dreams all are; None: any one's.
    """
    found: State = {}
    if dropout:
        drawn = [torch.from_numpy(rng(seed, "world").random(model.worlds, "float32")) for seed in seeds]
        found[WORLD] = hiding(dropout, torch.stack(drawn)).to(model.starts.device)
    if model.members > 1:
        found[MEMBER] = _members(model.members, seeds, member).to(model.starts.device)
    return found


def _members(members: int, seeds: list[int], member: int | None) -> Tensor:
    """Whose dream each seed is: float32 (B, 1)."""
    if member is None:
        whose = [int(rng(seed, "member").integers(members)) for seed in seeds]
    else:
        whose = [member] * len(seeds)
    return torch.tensor(whose, dtype=torch.float32).unsqueeze(1)
