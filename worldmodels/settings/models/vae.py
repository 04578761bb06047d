"""What a VAE can be asked (models/vae.py)."""

from dataclasses import dataclass
from typing import ClassVar

from worldmodels.settings.models.base import ModelSettings


@dataclass(frozen=True, kw_only=True)
class VAESettings(ModelSettings):
    """V of World Models."""

    MAY_BE_ZERO: ClassVar[frozenset[str]] = frozenset({"kl_floor"})

    code_size: int = 32
    """Numbers in a code z (World Models: 32 for CarRacing, 64 for Doom)."""
    kl_floor: float = 0.5
    """Nats per code dimension below which the KL divergence is not pressed (CLASSIC 1.3)."""
