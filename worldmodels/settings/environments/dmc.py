"""dm_control's suite and manipulation (envs/dmc.py). World Models never met it: V and M at "paper" are ours."""

from worldmodels.settings.environments.other import MEMORY_SMALL
from worldmodels.settings.environments.record import Environment

DMC = Environment(
    name="dmc:",
    make="worldmodels.envs.dmc:ControlSuite",
    presets={
        "collect": {
            "all": {"max_steps": 500, "policy": "varied"},
            "tiny": {"max_steps": 100},
            "paper": {"episodes": 2000, "policy": "uniform"},
        },
        "memory": {
            "all": {"termination": False},
            "paper": MEMORY_SMALL | {"steps": 20_000, "sequence_length": 128, "reward": "head", "save_every": 250},
        },
        "controller": {
            "all": {"max_steps": 500},
            "tiny": {"max_steps": 100},
            "paper": {"test_episodes": 256},
        },
    },
    random_policy="uniform",
    action_repeat=2,
    distractors=True,
    dcs=True,
    tells_truth=True,
)
