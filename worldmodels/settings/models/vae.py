"""What a VAE can be asked (models/vae.py)."""

from dataclasses import dataclass

from worldmodels.settings.flags import setting
from worldmodels.settings.models.base import ModelSettings


@dataclass(frozen=True, kw_only=True)
class VAESettings(ModelSettings):
    """V of World Models."""

    code_size: int = setting(32, most=65_536)
    """Numbers in a code z (World Models: 32 for CarRacing, 64 for Doom)."""
    kl_floor: float = setting(0.5, zero=True)
    """Nats per code dimension below which the KL divergence is not pressed (CLASSIC 1.3)."""
    focus: float = setting(0.0, zero=True)
    """How much more what is badly drawn may weigh: each squared error e weighs 1 + min(e / mean e, focus), so that
    small things are not lost among walls. 0: all alike (World Models)."""
