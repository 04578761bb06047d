"""What an MDN-RNN can be asked (models/mdnrnn.py)."""

from dataclasses import dataclass

from worldmodels.settings.flags import Only, setting
from worldmodels.settings.models.base import WorldsSettings


@dataclass(frozen=True, kw_only=True)
class MDNRNNSettings(WorldsSettings):
    """M of World Models."""

    hidden_size: int = setting(256, most=65_536)
    """Numbers in the memory h (World Models: 256 for CarRacing, 512 for Doom)."""
    mixtures: int = setting(5, most=100)
    """Gaussians per code dimension."""
    restart_input: bool = False
    """Tell it when an episode has just begun (the paper's Doom model)."""
    sequence_length: int = setting(128, most=100_000)
    """Steps of truncated back-propagation; the state is carried on to the next batch."""
    self_fed: float = setting(0.0, zero=True, most=1.0)
    """Share of the codes that it is shown in training which are its own: what it expected, in place of what came
    (scheduled sampling). Its dreams then drift less. 0: it is shown real codes only, as published."""
    passes: int = setting(3, most=100, only=Only("--self-fed", lambda model: model.self_fed > 0))
    """How often own codes are drawn anew for a gradient step, each time from the memory of those before; each costs
    about a third of a step."""
