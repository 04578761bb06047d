"""Policies that see nothing: the authors' random ones, for collecting, and the trivial ones, for comparing.

A policy is made once per episode from a generator of its own, then asked for an action at each step.
"""

from collections.abc import Callable

import numpy as np

from worldmodels.core.errors import UserError, nearest
from worldmodels.settings.environments import record_of

Policy = Callable[[int], np.ndarray]
"""step -> action, float32 (A,) in [-1, 1]"""


def held(rng: np.random.Generator, action_size: int) -> Policy:
    """Uniform actions, each held for a while: the authors' in Doom (CLASSIC 2.3).

    Whenever the step is a multiple of `repeat`, a new action is drawn, and a new repeat from 1 to 10.
    """
    repeat = 1
    action = np.zeros(action_size, np.float32)

    def act(step: int) -> np.ndarray:
        nonlocal repeat, action
        if step % repeat == 0:
            action = rng.uniform(-1, 1, action_size).astype(np.float32)
            repeat = int(rng.integers(1, 11))
        return action

    return act


def varied(rng: np.random.Generator, action_size: int) -> Policy:
    """Uniform actions or swings from one side to the other, held for a time that differs between episodes.

    In half of the episodes each action is uniform, in the other half it is full and turns the other way;
    each is held for up to 10 to 200 steps, log-uniform per episode. `held` seldom reaches a wall, never
    leans on it and seldom lives past 500 steps, so an M that saw nothing else dreams that walls and swings
    are safe, and evolution finds out.
    """
    longest = round(10 ** rng.uniform(1, np.log10(200)))
    swings = rng.random() < 0.5
    until = 0
    action = rng.choice(np.array([-1, 1], np.float32), action_size)

    def act(step: int) -> np.ndarray:
        nonlocal until, action
        if step >= until:
            action = -action if swings else rng.uniform(-1, 1, action_size).astype(np.float32)
            until = step + int(rng.integers(longest // 2 if swings else 1, longest + 1))
        return action

    return act


def spicy(rng: np.random.Generator, action_size: int, code_size: int = 32) -> Policy:
    """An untrained agent with Cauchy weights that sees noise: the authors' in CarRacing (CLASSIC 1.2).

    The heavy tails give a few episodes of hard, constant steering or gas.
    """
    scale = rng.uniform(0, 0.01)
    weights = scale * rng.standard_cauchy((code_size, action_size))
    bias = scale * rng.standard_cauchy(action_size)
    return lambda step: np.tanh(rng.standard_normal(code_size) @ weights + bias).astype(np.float32)


def brownian(rng: np.random.Generator, action_size: int) -> Policy:
    """A random walk of variance 1/50 per step, clipped to [-1, 1], from a uniform start."""
    action = rng.uniform(-1, 1, action_size)

    def act(step: int) -> np.ndarray:
        nonlocal action
        if step:
            action = np.clip(action + rng.normal(0, np.sqrt(1 / 50), action_size), -1, 1)
        return action.astype(np.float32)

    return act


def uniform(rng: np.random.Generator, action_size: int) -> Policy:
    """A new uniform action at every step."""
    return lambda step: rng.uniform(-1, 1, action_size).astype(np.float32)


def still(rng: np.random.Generator, action_size: int) -> Policy:
    """No action: zeros."""
    return lambda step: np.zeros(action_size, np.float32)


def sweep(rng: np.random.Generator, action_size: int, period: int = 60) -> Policy:
    """One way for 60 steps, then the other (CLASSIC 2.8: in TakeCover twice as good as random)."""
    return lambda step: np.full(action_size, 1.0 if step // period % 2 == 0 else -1.0, np.float32)


POLICIES: dict[str, Callable[[np.random.Generator, int], Policy]] = {
    "held": held,
    "varied": varied,
    "spicy": spicy,
    "brownian": brownian,
    "uniform": uniform,
    "still": still,
    "sweep": sweep,
}


def paper_policy(env: str) -> str:
    """The name of the random policy that the authors collected with in `env`."""
    return _known(record_of(env).random_policy, env)


def baselines(env: str) -> dict[str, str]:
    """The trivial policies that a score in `env` is shown beside: what to call them -> their name."""
    return {label: _known(name, env) for label, name in record_of(env).baselines.items()}


def _known(name: str, env: str) -> str:
    if name not in POLICIES:
        raise UserError(f"the record of --env {env} names the policy {name}; {nearest(name, list(POLICIES))}")
    return name
