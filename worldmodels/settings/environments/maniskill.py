"""ManiSkill 3's manipulation (envs/maniskill.py). World Models never met it: V and M at "paper" are ours."""

from worldmodels.settings.environments.other import MEMORY_SMALL
from worldmodels.settings.environments.record import Environment

STEPS = 100  # of an episode (HRSSM 5.1)

MANISKILL = Environment(
    name="maniskill:",
    make="worldmodels.envs.maniskill:ManiSkill",
    presets={
        "collect": {
            "all": {"max_steps": STEPS, "policy": "varied"},
            "tiny": {"max_steps": STEPS},
            "paper": {"episodes": 5000, "policy": "uniform"},
        },
        "memory": {
            "all": {"termination": False},
            "paper": MEMORY_SMALL | {"steps": 20_000, "sequence_length": 100, "reward": "head", "save_every": 250},
        },
        "controller": {
            "all": {"max_steps": STEPS},
            "tiny": {"max_steps": STEPS},
            "paper": {"test_episodes": 256},
        },
    },
    random_policy="uniform",
    distractors=True,
    tells_truth=True,
)
