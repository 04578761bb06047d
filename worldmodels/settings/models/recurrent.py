"""What every recurrent state-space model can be asked, HRSSM's own and M's alike (models/rssm.py)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from worldmodels.settings.models.base import ModelSettings

# The paper: HRSSM sections 1, 2, 4.
PAPER: dict[str, Any] = {
    "hidden_size": 512,
    "groups": 32,
    "classes": 32,
    "units": 512,
    "batch_size": 16,
    "sequence_length": 64,
    "learning_rate": 1e-4,
    "final_learning_rate": 1e-4,
    "clip": 0.0,
    "max_norm": 1000.0,
}
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "groups": 8,
    "classes": 8,
    "units": 128,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "final_learning_rate": 3e-4,
    "clip": 0.0,
    "max_norm": 100.0,
}


@dataclass(frozen=True, kw_only=True)
class RecurrentSettings(ModelSettings):
    """An RSSM's sizes, and its heads'."""

    MAY_BE_ZERO: ClassVar[frozenset[str]] = frozenset({"classes", "free_nats"})

    hidden_size: int = 512
    """Numbers in the memory h."""
    groups: int = 32
    """Categorical variables in z."""
    classes: int = 32
    """Classes of each; 0 makes z Gaussian."""
    units: int = 512
    """Width of the layers between."""
    layers: int = 2
    """Hidden layers of the heads that predict rewards and ends."""
    free_nats: float = 1.0
    """Nats per step below which the KL divergence is not pressed (HRSSM 3.2)."""
