"""CarRacing, World Models' first task (envs/carracing.py). Its sizes are every other environment's (other.py)."""

from worldmodels.settings.environments.record import Environment

CARRACING = Environment(
    name="carracing",
    make="worldmodels.envs.carracing:CarRacing",
    baselines={"straight, half gas": "still", "random": "spicy"},  # zero is the middle of the pedal
    distractors=True,
    tells_truth=True,
)
