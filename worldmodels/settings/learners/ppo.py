"""What PPO can be asked (learners/ppo.py). `near` and `lambda_` are those of Schulman et al. 2017."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worldmodels.settings.flags import DREAMT, setting
from worldmodels.settings.learners.base import ActorSettings


@dataclass(frozen=True, kw_only=True)
class PPOSettings(ActorSettings):
    """Proximal policy optimisation, in dreams that go on from update to update, or in real episodes."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "all": {"units": 128, "save_every": 10, "sample_end": True, "episodes": 16, "critic_learning_rate": 1e-3},
        "tiny": {"updates": 80, "test_every": 80},
        "laptop": {"updates": 200, "test_every": 100},
        "paper": {"updates": 1000, "test_every": 50},
    }

    SCALED: ClassVar[bool] = True

    rows: int = setting(256, most=1_000_000, only=DREAMT)
    """Dreams side by side. (In the real environment an update learns from --episodes whole ones.)"""
    decisions: int = setting(32, most=100_000, only=DREAMT)
    """Decisions of each dream that an update learns from."""
    hold: int = setting(4, most=1000)
    """Steps that a decision lasts while the actor learns, for choices drawn anew at every step would average out.
    Whoever acts later decides at every step."""
    learning_rate: float = setting(3e-4)
    """Adam's step size."""
    max_norm: float = setting(0.5)
    """The gradient of each of the two is scaled down to this norm."""
    epochs: int = setting(3, most=1000)
    """How often an update goes through its decisions."""
    batch_size: int = setting(1024, most=1_000_000)
    """Decisions per gradient step."""
    near: float = setting(0.2, most=1.0)
    """How far a decision's probability may move in an update for its gain to count: by this share."""
    discount: float = setting(0.995, most=1.0)
    """What a step later is worth."""
    lambda_: float = setting(0.95, zero=True, most=1.0)
    """How far returns trust what came, over what the critic expects: 1 to the end of it, 0 for one decision."""
    entropy: float = setting(0.01, zero=True)
    """What a nat of the actor's entropy is worth, so that it goes on trying."""
