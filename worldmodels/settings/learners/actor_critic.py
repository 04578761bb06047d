"""What an actor and a critic can be asked (imagination/learner.py). The numbers are the HRSSM authors' (HRSSM 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from worldmodels.settings.flags import setting
from worldmodels.settings.models.base import ModelSettings

SMALL: dict[str, Any] = {"units": 128, "batch_size": 256, "starts": 4096}


@dataclass(frozen=True, kw_only=True)
class ActorCriticSettings(ModelSettings):
    """An actor that acts and a critic that judges, both trained in imagination."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": SMALL | {"updates": 1000, "learning_rate": 1e-4, "test_every": 250, "save_every": 250},
        "laptop": SMALL | {"updates": 10_000, "test_every": 1000},
        "paper": {"updates": 250_000, "test_every": 2500},
    }

    updates: int = setting(10_000, most=10_000_000, free=True)
    """Updates of actor and critic."""
    batch_size: int = setting(1024, most=1_000_000)
    """Dreams per update, side by side."""
    imagine: int = setting(15, least=2, too_few="leads nowhere", most=10_000)
    """States of each such dream, that of a real episode with which it begins among them."""
    starts: int = setting(16_384, most=10_000_000)
    """Moments of real episodes, drawn from the rollouts once, that these dreams begin at."""
    units: int = setting(512, most=65_536)
    """Width of the layers of actor and critic."""
    layers: int = setting(2, most=100)
    """Hidden layers of each."""
    actions: Literal["auto", "numbers", "choices"] = setting("auto")
    """What the actor decides on: numbers in [-1, 1], or choices, of which it takes one: those that the environment's
    record lists (Doom's), else each of the action's numbers alone, as Discrete environments have them. auto: choices
    where the record lists them, else numbers."""
    learning_rate: float = setting(3e-5)
    """Adam's step size, of both."""
    max_norm: float = setting(100.0)
    """The gradient of each as a whole is scaled down to this norm."""
    discount: float = setting(0.997, most=1.0)
    """What a step later is worth."""
    lambda_: float = setting(0.95, zero=True, most=1.0)
    """How far returns trust what is dreamt, over what the critic expects: 1 to the end of the dream, 0 for one step."""
    entropy: float = setting(3e-4, zero=True)
    """What a nat of the actor's entropy is worth, so that it goes on trying."""
    save_every: int = setting(500, free=True)
    """Updates between checkpoints."""
