"""A trained agent acts in the real environment, and is filmed:

python examples/act.py runs/doom
"""

import sys

import worldmodels

agent = worldmodels.load(sys.argv[1])  # V, M and C of a run
env = agent.real_env()  # a gymnasium.Env that shows what V and M make of the real one
features, _ = env.reset(seed=0)
total, steps, over = 0.0, 0, False

while not over:
    features, reward, terminated, truncated, _ = env.step(agent.act(features))
    total, steps, over = total + reward, steps + 1, terminated or truncated

env.close()
print(f"{agent.spec.env.name}: {steps} steps, return {total:.1f}")

outcome = agent.film("act.mp4", seed=1)  # the game, what V is shown of it, and what V makes of that
print(f"act.mp4: {outcome.length} steps, return {outcome.episode_return:.1f}")
