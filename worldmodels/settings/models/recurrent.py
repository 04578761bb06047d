"""What every recurrent state-space model can be asked, HRSSM's own and M's alike (models/rssm.py)."""

from dataclasses import dataclass
from typing import Any

from worldmodels.settings.flags import setting
from worldmodels.settings.models.base import ModelSettings

# The paper: HRSSM sections 1, 2, 4.
PAPER: dict[str, Any] = {
    "precision": "fp32",
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

    hidden_size: int = setting(512, most=65_536)
    """Numbers in the memory h."""
    groups: int = setting(32, most=4096)
    """Categorical variables in z."""
    classes: int = setting(32, zero=True, most=4096)
    """Classes of each; 0 makes z Gaussian."""
    units: int = setting(512, most=65_536)
    """Width of the layers between."""
    layers: int = setting(2, most=100)
    """Hidden layers of the heads that predict rewards and ends."""
    free_nats: float = setting(1.0, zero=True)
    """Nats per step below which the KL divergence is not pressed (HRSSM 3.2)."""
