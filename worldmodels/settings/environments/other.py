"""Any Gymnasium environment that shows images: what holds where its own record says nothing else.

The sizes are those of World Models' CarRacing.
"""

from worldmodels.settings.environments.record import Environment

VISION_PAPER = {"batch_size": 100, "learning_rate": 1e-4, "final_learning_rate": 1e-4}
# Small batches and large steps: at 96,000 frames of Doom seen, held-out squared error 16.8 (batch 32, 1e-3), 21.6 (64,
# 1e-3), 26.0 (128, 5e-4); the paper's settings need ten times as many frames.
VISION_SMALL = {"batch_size": 32, "learning_rate": 1e-3, "final_learning_rate": 1e-4}
MEMORY_SMALL = {"batch_size": 100, "clip": 1.0, "learning_rate": 1e-3, "final_learning_rate": 1e-4}

OTHER = Environment(
    name="other",
    presets={
        "collect": {
            "all": {"max_steps": 1000},
            "tiny": {"episodes": 32, "shard_size": 8, "max_steps": 300},
            "laptop": {"episodes": 240},
            "paper": {"episodes": 10_000},
        },
        "vision": {
            "all": {"code_size": 32},
            "tiny": VISION_SMALL | {"steps": 600},
            "laptop": VISION_SMALL | {"steps": 6000},
            "paper": VISION_PAPER | {"steps": 1_000_000},
        },
        "memory": {
            "all": {"hidden_size": 256},
            "tiny": MEMORY_SMALL | {"steps": 200, "batch_size": 32, "sequence_length": 64},
            "laptop": MEMORY_SMALL | {"steps": 1500},
            "paper": {
                "clip": 1.0,
                "batch_size": 100,
                "sequence_length": 999,
                "steps": 4000,
                "final_learning_rate": 1e-3,
                "reward": "none",
                "termination": False,
                "save_every": 50,
            },
        },
        "controller": {
            "all": {"bias": True, "max_steps": 1000},
            "tiny": {
                "generations": 5,
                "pop_size": 8,
                "episodes": 2,
                "max_steps": 300,
                "test_every": 5,
                "test_episodes": 8,
                "real_episodes": 4,
                "final_episodes": 16,
            },
            "laptop": {
                "generations": 60,
                "pop_size": 32,
                "episodes": 2,
                "test_every": 10,
                "test_episodes": 16,
                "final_episodes": 20,
            },
            "paper": {"generations": 1800, "pop_size": 64, "episodes": 16, "test_every": 25, "test_episodes": 1024},
        },
    },
)
