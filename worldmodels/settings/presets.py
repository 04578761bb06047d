"""What flags are when none is given: by stage, environment and --preset. "all" holds for every preset.

Settings of a V or M stand here where they depend on the environment; a model that has no such setting passes them over.
"""

from collections.abc import Mapping
from typing import Any

from worldmodels.core.errors import UserError, nearest
from worldmodels.settings.envspec import CONTROL

_VISION_PAPER = {"batch_size": 100, "learning_rate": 1e-4, "final_learning_rate": 1e-4}
# Small batches and large steps: at 96,000 frames of Doom seen, held-out squared error 16.8 (batch 32, 1e-3), 21.6 (64,
# 1e-3), 26.0 (128, 5e-4); the paper's settings need ten times as many frames.
_VISION_SMALL = {"batch_size": 32, "learning_rate": 1e-3, "final_learning_rate": 1e-4}
_MEMORY_SMALL = {"batch_size": 100, "clip": 1.0, "learning_rate": 1e-3, "final_learning_rate": 1e-4}
_DOOM_MEMORY = {"hidden_size": 512, "restart_input": True, "reward": "alive", "clip": 1.0, "batch_size": 100}
_OTHER: dict[str, dict[str, dict[str, Any]]] = {
    "CollectConfig": {
        "all": {"max_steps": 1000},
        "tiny": {"episodes": 32, "shard_size": 8, "max_steps": 300},
        "laptop": {"episodes": 240},
        "paper": {"episodes": 10_000},
    },
    "VisionConfig": {
        "all": {"code_size": 32},
        "tiny": _VISION_SMALL | {"steps": 600},
        "laptop": _VISION_SMALL | {"steps": 6000},
        "paper": _VISION_PAPER | {"steps": 1_000_000},
    },
    "MemoryConfig": {
        "all": {"hidden_size": 256},
        "tiny": _MEMORY_SMALL | {"steps": 200, "batch_size": 32, "sequence_length": 64},
        "laptop": _MEMORY_SMALL | {"steps": 1500},
        "paper": {"clip": 1.0, "batch_size": 100, "sequence_length": 999, "steps": 4000, "final_learning_rate": 1e-3,
                  "reward": "none", "termination": False, "save_every": 50},
    },
    "ControllerConfig": {
        "all": {"bias": True, "max_steps": 1000},
        "tiny": {"generations": 5, "pop_size": 8, "episodes": 2, "max_steps": 300, "test_every": 5,
                 "test_episodes": 8, "real_episodes": 4, "final_episodes": 16},
        "laptop": {"generations": 60, "pop_size": 32, "episodes": 2, "test_every": 10, "test_episodes": 16,
                   "final_episodes": 20},
        "paper": {"generations": 1800, "pop_size": 64, "episodes": 16, "test_every": 25, "test_episodes": 1024},
    },
}  # fmt: skip
_DOOM: dict[str, dict[str, dict[str, Any]]] = {
    "CollectConfig": {
        "all": {"shard_size": 32, "max_steps": 2100},
        "tiny": {"episodes": 960, "policy": "varied"},
        "laptop": {"episodes": 1600, "policy": "varied"},
        "paper": {"episodes": 10_000, "min_steps": 100},
    },
    "VisionConfig": {
        "all": {"code_size": 64},
        "tiny": _VISION_SMALL | {"steps": 2400},
        "laptop": _VISION_SMALL | {"steps": 9000},
        "paper": _VISION_PAPER | {"steps": 308_000},
    },
    "MemoryConfig": {
        "all": _DOOM_MEMORY,
        "tiny": {"steps": 2000, "batch_size": 64, "sequence_length": 64},
        "laptop": {"steps": 1600},
        "paper": {"steps": 24_400, "sequence_length": 500, "final_learning_rate": 7.85e-4, "save_every": 50},
    },
    "ControllerConfig": {
        "all": {"bias": False, "max_steps": 2100},
        "tiny": {"generations": 10, "pop_size": 32, "episodes": 16, "sample_end": True, "test_every": 5,
                 "test_episodes": 128, "real_episodes": 16},
        "laptop": {"generations": 30, "pop_size": 64, "episodes": 16, "test_every": 10, "test_episodes": 512},
        "paper": {"generations": 1800, "pop_size": 64, "episodes": 16, "test_every": 25, "test_episodes": 1024,
                  "real_episodes": 100},
    },
}  # fmt: skip
# What dm_control asks for, over what any environment does. World Models never met it: its V and M at "paper" are ours.
_DMC_CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "CollectConfig": {
        "all": {"action_repeat": 2, "max_steps": 500, "policy": "varied"},
        "tiny": {"max_steps": 100},
        "paper": {"episodes": 2000, "policy": "uniform"},
    },
    "VisionConfig": {"all": {"action_repeat": 2}},
    "MemoryConfig": {
        "all": {"action_repeat": 2, "termination": False},
        "paper": _MEMORY_SMALL | {"steps": 20_000, "sequence_length": 128, "reward": "head", "save_every": 250},
    },
    "ControllerConfig": {
        "all": {"action_repeat": 2, "max_steps": 500},
        "tiny": {"max_steps": 100},
        "paper": {"test_episodes": 256},
    },
}
_DMC = {
    stage: {name: settings | _DMC_CHANGES[stage].get(name, {}) for name, settings in table.items()}
    for stage, table in _OTHER.items()
}
PRESETS = {
    stage: {"doom": _DOOM[stage], "carracing": _OTHER[stage], "dmc": _DMC[stage], "other": _OTHER[stage]}
    for stage in _OTHER
}
PRESET_NAMES = ["tiny", "laptop", "paper"]


def check_preset(preset: str) -> None:
    """Raises UserError if there is no such preset."""
    if preset not in PRESET_NAMES:
        raise UserError(f"--preset {preset} is unknown; {nearest(preset, PRESET_NAMES)}")


def preset_of(
    kind: type, env: str, preset: str, model: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """What `preset` sets for `env` in the stage `kind`, and over that, for its V or M, by the table that is that
    model's own (settings/models/)."""
    check_preset(preset)
    table = PRESETS.get(kind.__name__, {})
    family = "dmc" if env.startswith(CONTROL) else env if env in table else "other"
    chosen = {"env": env, "preset": preset}
    for settings in (table.get(family, {}), model or {}):
        chosen |= {**settings.get("all", {}), **settings.get(preset, {})}
    return chosen
