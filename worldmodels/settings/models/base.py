"""What the settings of every V and M have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from worldmodels.core.errors import UserError
from worldmodels.settings.flags import Only, setting


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What a V or M can be asked, each field once: its constructor takes this, its saved config is this, and a field is
    a flag, whose help is the text beneath it. Numbers must be above 0, if `setting` says nothing else (flags.py)."""

    # By --preset, "all" for each: over what the environment asks for. The stage's own settings may be among them.
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}


@dataclass(frozen=True, kw_only=True)
class MemorySettings(ModelSettings):
    """What every M is asked: how its dreams pay, and whether they end."""

    # The Vs that have a recurrent model of their own, from which this M goes on.
    CONTINUES: ClassVar[tuple[str, ...]] = ()

    reward: Literal["head", "alive", "none"] = "head"
    """What a dream pays: head (predicted), alive (1 per step: the paper's Doom), none (the paper's CarRacing)."""
    termination: bool = True
    """Predict the end of episodes; without it dreams end only by --max-steps."""
    termination_weight: float = setting(10.0, only=Only("--termination", lambda model: model.termination))
    """How much more the last step of an episode weighs in that prediction than the others."""


@dataclass(frozen=True, kw_only=True)
class WorldsSettings(MemorySettings):
    """What an M is asked whose dreams can each be a world of their own (models/worlds.py)."""

    dropout: float = setting(0.0, zero=True)
    """Share of z and of its memory h that is hidden from it in training: other numbers of them in every sequence. It
    can then dream worlds each of which is a little different (--dream-dropout of stage 4)."""
    members: int = setting(1, most=64)
    """An ensemble: so many members expect, each in its own way, what follows from one memory h. In training each
    sequence teaches one of them; each dream is one member's, from its beginning to its end. A step of a dream computes
    what all expect: with five members it takes about twice as long."""

    def __post_init__(self) -> None:
        if self.dropout >= 1:
            raise UserError(f"--dropout {self.dropout:g} hides everything; give less than 1")
