"""Train an agent inside its own dream: vision (V), memory (M) and a tiny controller (C)."""

import importlib
import os
from typing import Any

# Threads of a product wait for each other by spinning; where another process has their core, not for as long as usual:
# 2.4 times as fast there, the same elsewhere (docs/performance.md). OpenMP reads it when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_PLACES = {
    "load": "trained",
    "use": "core.plugins",
    "make_env": "envs",
    "DreamEnv": "dreams.dream_env",
    "LatentEnv": "dreams.latent_env",
    "SB3VecEnv": "dreams.sb3",
}
"""What a user looks for here, and where it stands. It is imported when asked for: torch takes seconds."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
