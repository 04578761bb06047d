"""Dreams each of which is a world of its own, from its beginning to its end: what C learns in all of them holds in more
than what one M believes.

Dropout worlds are fixed and slightly wrong (Wellmer & Kwok 2021, Dropout's Dream Land): in each a part of z and h is
hidden from M, the same numbers throughout. In an ensemble each dream is that of one member, which expects what follows
in its own way (Chua et al. 2018, arXiv 1805.12114, TS-infinity).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import rng, uniform
from worldmodels.models.base import State, WorldModel

WORLD = "world"
"""Of a state: what z and h are multiplied by before M is shown them, in the dreams of dropout worlds."""
MEMBER = "member"
"""Of a state: which of an ensemble's members says what follows, (B, 1); without it, the first does."""


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


def world_of(state: State) -> State:
    """The part of a state that dreams hand on unchanged: in which world they are, and whose they are, if it says so."""
    return {name: state[name] for name in (WORLD, MEMBER) if name in state}


def hiding(share: float, drawn: Tensor) -> Tensor:
    """What numbers are multiplied by, of which a share is hidden: 0, or what keeps their mean; as many as the uniform
    ones that were drawn."""
    return (drawn >= share).to(drawn.dtype) / (1 - share)


def drawn_worlds(share: float, rows: int, size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """A world for each row, (B, Z + H), in which that share of its `size` numbers is hidden."""
    return hiding(share, uniform(generator, rows, size).to(device))


def shown(z: Tensor, h: Tensor, world: Tensor | None) -> tuple[Tensor, Tensor]:
    """z (..., Z) and memory h (..., H) as M is shown them in a world (..., Z + H) in which a part of them is hidden."""
    if world is None:
        return z, h
    of_z, of_h = world.split([z.shape[-1], h.shape[-1]], -1)
    return z * of_z, h * of_h


def in_turn(members: int, rows: int, device: torch.device) -> State:
    """The part of a state that says whose dreams `rows` rows are: the first is the first member's, and so on around."""
    return {MEMBER: (torch.arange(rows, device=device) % members).float().unsqueeze(1)} if members > 1 else {}


def drawn_members(members: int, rows: int, generator: torch.Generator, device: torch.device) -> State:
    """The part of a state that says whose dreams `rows` rows are, at random."""
    if members == 1:
        return {}
    return {MEMBER: torch.randint(members, (rows, 1), generator=generator).float().to(device)}


def in_worlds(model: WorldModel, state: State, dropout: float, generator: torch.Generator) -> State:
    """What dreams begin with, `state` of B rows, each in a world of its own: any member's, with that share hidden."""
    rows = len(next(iter(state.values())))
    device = model.starts.device
    begun = state | drawn_members(model.members, rows, generator, device)
    if dropout:
        begun[WORLD] = drawn_worlds(dropout, rows, model.worlds, generator, device)
    return begun


def taught(members: int, rows: int, training: bool, generator: torch.Generator, device: torch.device) -> Tensor | None:
    """Which member each of `rows` sequences teaches, at random, or tests, in turn: (B, 1); None if there is but one."""
    whose = drawn_members(members, rows, generator, device) if training else in_turn(members, rows, device)
    return whose.get(MEMBER)


def by_member(experts: Sequence[Callable[[Tensor], Tensor]], h: Tensor, member: Tensor | None) -> Tensor:
    """What each row's own expert makes of h (..., B, H); of all rows the first, if `member`, (B, 1), is not told.

    Where gradients pass, each expert learns from its own rows alone.
    """
    said = experts[0](h)
    if member is None:
        return said
    for number, expert in enumerate(experts[1:], 1):
        said = torch.where(member == number, expert(h), said)
    return said
