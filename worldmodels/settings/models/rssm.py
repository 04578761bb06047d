"""What an RSSM can be asked as an M (models/recurrent.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worldmodels.settings.flags import setting
from worldmodels.settings.models.base import WorldsSettings
from worldmodels.settings.models.recurrent import PAPER, SMALL, RecurrentSettings


@dataclass(frozen=True, kw_only=True)
class RSSMSettings(RecurrentSettings, WorldsSettings):
    """M of the robust family. On codes of an HRSSM it goes on from V's own, and has its sizes."""

    CONTINUES: ClassVar[tuple[str, ...]] = ("hrssm",)
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "all": {"termination_weight": 1.0},
        "tiny": SMALL | {"sequence_length": 16, "steps": 200},
        "laptop": SMALL | {"sequence_length": 32, "steps": 3000},
        # codes of 4,096 numbers are 8 KB a frame; heads as HRSSM's, whatever World Models had there
        "paper": PAPER
        | {"steps": 10_000, "shuffle_buffer": 100_000, "reward": "head", "termination": True, "save_every": 250},
    }

    sequence_length: int = setting(128, most=100_000)
    """Steps per sequence, which is as far as errors are propagated back."""
