"""What DreamEnv and LatentEnv have in common: the two spaces, and what is refused in them."""

import operator
from typing import Any

import numpy as np
from gymnasium import spaces

from worldmodels.models.base import WorldModel

FPS = 35  # of pictures, where the environment names no rate: Doom's


def spaces_of(model: WorldModel, inputs: tuple[str, ...]) -> tuple[spaces.Box, spaces.Box]:
    """What is observed, (F,), and how one acts, (A,)."""
    if isinstance(inputs, str) or not inputs or not set(inputs) <= set(model.feat_sizes):
        raise ValueError(f"inputs must be a tuple of some of {', '.join(model.feat_sizes)}; got {inputs!r}")
    width = sum(model.feat_sizes[part] for part in inputs)
    observed = spaces.Box(-np.inf, np.inf, (width,), np.float32)
    acted = spaces.Box(-1, 1, (model.action_size,), np.float32)
    return observed, acted


def whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}; got {number}")
    return number


def clipped(values: Any, shape: tuple[int, ...] | None, rows: Any = ...) -> np.ndarray:
    """float32 of `shape`, clipped to [-1, 1]; all `rows` must be numbers."""
    action = np.asarray(values, np.float32)
    if action.shape != shape:
        raise ValueError(f"actions must have the shape {shape}; got {action.shape}")
    if np.isnan(action[rows]).any():
        raise ValueError(f"an action is not a number; got {action.tolist()}")
    return np.clip(action, -1, 1)


def rows_of(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()
