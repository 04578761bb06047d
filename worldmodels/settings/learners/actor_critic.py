"""What an actor and a critic can be asked (learners/actor_critic.py). The numbers are the HRSSM authors' (HRSSM 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worldmodels.settings.flags import setting
from worldmodels.settings.learners.base import ActorSettings

SMALL: dict[str, Any] = {"units": 128, "batch_size": 256, "starts": 4096}


@dataclass(frozen=True, kw_only=True)
class ActorCriticSettings(ActorSettings):
    """An actor that acts and a critic that judges, both trained in dreams, by the gradient through them."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": SMALL | {"updates": 1000, "learning_rate": 1e-4, "test_every": 250, "save_every": 250},
        "laptop": SMALL | {"updates": 10_000, "test_every": 1000},
        "paper": {"updates": 250_000, "test_every": 2500},
    }

    batch_size: int = setting(1024, most=1_000_000)
    """Dreams per update, side by side."""
    imagine: int = setting(15, least=2, too_few="leads nowhere", most=10_000)
    """States of each such dream, that of a real episode with which it begins among them."""
    starts: int = setting(16_384, most=10_000_000)
    """Moments of real episodes, drawn from the rollouts once, that these dreams begin at."""
    max_norm: float = setting(100.0)
    """The gradient of each as a whole is scaled down to this norm."""
    discount: float = setting(0.997, most=1.0)
    """What a step later is worth."""
    lambda_: float = setting(0.95, zero=True, most=1.0)
    """How far returns trust what is dreamt, over what the critic expects: 1 to the end of the dream, 0 for one step."""
    entropy: float = setting(3e-4, zero=True)
    """What a nat of the actor's entropy is worth, so that it goes on trying."""
