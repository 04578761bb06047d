"""PPO of stable-baselines3 learns in the dream of a run's V and M, and is then tested in the real environment:

pip install 'worldmodels[examples]'
python examples/ppo_in_a_dream.py --run runs/doom --env doom

With pretrained/doom it takes five minutes of a core, and survives 809 ± 446 steps in the real game (100 episodes).
"""

from pathlib import Path

import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor

from worldmodels import DreamEnv, LatentEnv, SB3VecEnv, make_env, models


def main(
    run: Path = Path("runs/doom"), env: str = "doom", tau: float = 1.15, steps: int = 500_000, episodes: int = 20
) -> None:
    """Args:
    run: holds V and M; a controller is not needed.
    env: what they were trained in.
    tau: temperature of the dream.
    steps: to learn from, of all rows together.
    episodes: to be tested in.
    """
    model = models.load(run, env=env)
    inputs = model.default_inputs
    dream = DreamEnv(model, 16, inputs, tau, max_steps=2100, sample_end=True, autoreset_mode="SameStep")
    ppo = PPO("MlpPolicy", VecMonitor(SB3VecEnv(dream)), n_steps=256, batch_size=256, seed=0, device="cpu", verbose=1)
    ppo.learn(steps)

    real = LatentEnv(make_env(env), model, inputs, max_steps=2100)  # the same two spaces
    mean, std = evaluate_policy(ppo, Monitor(real), n_eval_episodes=episodes)
    real.close()
    print(f"learnt in the dream, in the real {env}: {mean:.1f} ± {std:.1f} ({episodes} episodes)")


if __name__ == "__main__":
    tyro.cli(main)
