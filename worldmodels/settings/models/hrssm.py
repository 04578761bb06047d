"""What an HRSSM can be asked (models/hrssm.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from worldmodels.core.errors import UserError
from worldmodels.settings.flags import Only, setting
from worldmodels.settings.models.recurrent import PAPER, SMALL, RecurrentSettings


@dataclass(frozen=True, kw_only=True)
class HRSSMSettings(RecurrentSettings):
    """V of the robust family, with the RSSM that it is trained with."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": SMALL | {"depth": 8, "code_size": 32, "sequence_length": 16, "steps": 300},
        "laptop": SMALL | {"depth": 16, "code_size": 64, "sequence_length": 16, "steps": 3000},
        "paper": PAPER | {"depth": 32, "code_size": 0, "steps": 250_000, "losses": "paper"},
    }

    code_size: int = setting(32, zero=True, most=65_536)
    """Numbers in a code z; 0 leaves the encoder's 4096 as they are, as the authors. An MDN-RNN needs a code."""
    depth: int = setting(32, most=1024)
    """Channels of the encoder's first convolution; they double with each."""
    sequence_length: int = setting(64, most=100_000)
    """Frames per sequence."""
    mask: bool = True
    """Grey out cubes of space-time for the branch that is trained."""
    mask_ratio: float = setting(0.5, only=Only("--mask", lambda model: model.mask))
    """Share of each frame that is greyed out."""
    mask_spares: Literal["nothing", "motion"] = setting("nothing", only=Only("--mask", lambda model: model.mask))
    """What those cubes leave out as long as there is anything else: nothing (as published), or motion, the third of the
    cells of each block in which most changes from frame to frame (which a moving background does, too)."""
    bisimulation: bool = True
    """The bisimulation loss."""
    foresight: tuple[int, ...] = setting((), least=2, most=100_000)
    """Horizons, in steps, over which it is to foresee what will be paid (4 16 64, say), so that rewards which are
    constant, rare or late teach it, too. States are then alike if that is, and not the next reward. None: as
    published."""
    losses: Literal["mended", "paper"] = "mended"
    """The published losses (paper), or ours (mended): a bisimulation whose distances can be attained and for which
    terminals and constant, negative or unscaled rewards are no trap; rewards predicted over the data's range; and masks
    that must be seen through."""

    def __post_init__(self) -> None:
        if self.mask_ratio >= 1:
            raise UserError(f"--mask-ratio {self.mask_ratio:g} hides everything; give less than 1")
        object.__setattr__(self, "foresight", tuple(self.foresight))  # as a file has it, it is a list
        if self.foresight and self.losses == "paper":
            raise UserError("--foresight is not of the published losses; give --losses mended, or leave it out")
