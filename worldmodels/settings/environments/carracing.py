"""CarRacing, World Models' first task (envs/carracing.py). Its sizes are every other environment's (other.py)."""

from worldmodels.settings.environments.record import Environment, Published

CARRACING = Environment(
    name="carracing",
    make="worldmodels.envs.carracing:CarRacing",
    baselines={"straight, half gas": "still", "random": "spicy"},  # zero is the middle of the pedal
    rest=(0.0, -1.0, -1.0),  # steering, gas, brake
    keys={
        "left": (-1.0, 0.0, 0.0),
        "right": (1.0, 0.0, 0.0),
        "up": (0.0, 2.0, 0.0),
        "down": (0.0, 0.0, 1.8),
    },
    action_repeat=1,
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
