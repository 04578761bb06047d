"""Doom's TakeCover, World Models' second task (envs/doom.py)."""

from worldmodels.settings.environments.other import VISION_PAPER, VISION_SMALL
from worldmodels.settings.environments.record import Environment, Published

DOOM = Environment(
    name="doom",
    make="worldmodels.envs.doom:Doom",
    presets={
        "collect": {
            "all": {"shard_size": 32, "max_steps": 2100},
            "tiny": {"episodes": 960, "policy": "varied"},
            "laptop": {"episodes": 1600, "policy": "varied"},
            "paper": {"episodes": 10_000, "min_steps": 100},
        },
        "vision": {
            "all": {"code_size": 64},
            "tiny": VISION_SMALL | {"steps": 2400, "focus": 400.0},
            "laptop": VISION_SMALL | {"steps": 20_000, "focus": 400.0},
            "paper": VISION_PAPER | {"steps": 308_000},
        },
        "memory": {
            "all": {
                "hidden_size": 512,
                "restart_input": True,
                "reward": "alive",
                "termination": True,
                "clip": 1.0,
                "batch_size": 100,
            },
            "tiny": {"hidden_size": 256, "steps": 2500, "batch_size": 64, "sequence_length": 64, "self_fed": 0.9},
            "laptop": {"steps": 1200, "self_fed": 0.9},
            "paper": {"steps": 24_400, "sequence_length": 500, "final_learning_rate": 7.85e-4, "save_every": 50},
        },
        "controller": {
            "all": {"bias": False, "max_steps": 2100, "final_episodes": 100},
            "tiny": {
                "generations": 40,
                "pop_size": 32,
                "episodes": 16,
                "sample_end": True,
                "horizon": 240,
                "test_every": 10,
                "test_episodes": 512,
                "real_episodes": 16,
            },
            "laptop": {
                "generations": 200,
                "pop_size": 64,
                "episodes": 16,
                "sample_end": True,
                "horizon": 240,
                "test_every": 20,
                "test_episodes": 1024,
            },
            "paper": {
                "generations": 1800,
                "pop_size": 64,
                "episodes": 16,
                "test_every": 25,
                "test_episodes": 1024,
                "real_episodes": 100,
            },
        },
    },
    random_policy="held",
    baselines={"stay still": "still", "random": "held", "left-right sweep": "sweep"},
    tau=1.15,
    rest=(0.0,),
    keys={"left": (-1.0,), "right": (1.0,)},
    choices=((-1.0,), (0.0,), (1.0,)),
    distractors=True,
    tells_truth=True,
    published=Published(
        code_size=64,
        action_size=1,
        hidden_size=512,
        restart=True,
        inputs=("z", "c", "h"),
        params=1088,
        max_steps=2100,
        tau=1.25,
    ),
)
