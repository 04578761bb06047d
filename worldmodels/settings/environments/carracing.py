"""CarRacing, World Models' first task (envs/carracing.py). What is not said here is as for any other (other.py).

An action lasts four frames but for the paper's; an episode has 1,000. At "laptop" stand the numbers by which rounds of
dreams alone learnt to drive (docs/results.md).
"""

from worldmodels.settings.environments.record import Environment, Published

PAPER = {"action_repeat": 1, "max_steps": 1000}

CARRACING = Environment(
    name="carracing",
    make="worldmodels.envs.carracing:CarRacing",
    presets={
        "collect": {
            "all": {"max_steps": 250},
            "laptop": {"episodes": 600, "patience": 12},  # of whole random episodes most steps are on grass
            "paper": PAPER,
        },
        "vision": {"paper": {"action_repeat": 1}},
        "memory": {
            "laptop": {"steps": 2000, "real_episodes": 0},  # episodes seldom end by themselves
            "paper": {"action_repeat": 1},
        },
        "controller": {
            "all": {"max_steps": 250, "hold": 1},
            "laptop": {"horizon": 60, "real_episodes": 8},
            "paper": PAPER,
        },
        "run": {"laptop": {"round_episodes": 100, "keep_vision": True}},
    },
    baselines={"straight, half gas": "still", "random": "spicy"},  # zero is the middle of the pedal
    rest=(0.0, -1.0, -1.0),  # steering, gas, brake
    keys={
        "left": (-1.0, 0.0, 0.0),
        "right": (1.0, 0.0, 0.0),
        "up": (0.0, 2.0, 0.0),
        "down": (0.0, 0.0, 1.8),
    },
    action_repeat=4,
    distractors=True,
    tells_truth=True,
    published=Published(
        code_size=32,
        action_size=3,
        hidden_size=256,
        restart=False,
        inputs=("z", "h"),
        params=867,
        max_steps=1000,
        tau=None,
    ),
)
