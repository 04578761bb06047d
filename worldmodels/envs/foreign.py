"""Environments of others, found by a Gymnasium id: their habits, and the API of today.

What they may do: draw from numpy's and Python's global generators; speak the API of old (`reset()`
without a seed that gives a picture alone, `step()` that gives four things); give arrays of one for
numbers, and None for no info.
"""

import inspect
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from worldmodels.envs.checked import Info, Misstep

GLOBAL: Any = np.random  # whose stubs leave out the two functions that are asked of it


class Luck:
    """The global generators of numpy and Python as one environment finds them, whoever else draws from them.

    They are in their places while the block runs, so what an environment draws depends on its
    seed alone: neither on the episodes before in the same process nor on the environments beside
    it. Takes 20 to 35 µs a block.
    """

    def __init__(self) -> None:
        self.seed(0)

    def seed(self, seed: int) -> None:
        """As they are at the beginning of an episode."""
        self._numpy = np.random.MT19937(seed)  # the kind that np.random.seed asks for
        self._python = random.Random(seed).getstate()

    def __enter__(self) -> None:
        self._others = GLOBAL.get_bit_generator(), random.getstate()
        GLOBAL.set_bit_generator(self._numpy)
        random.setstate(self._python)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._python = random.getstate()
        GLOBAL.set_bit_generator(self._others[0])
        random.setstate(self._others[1])


class Foreign(gymnasium.Wrapper):
    """Someone's environment as today's API has it, with luck of its own.

    Args:
        make: makes it; by gymnasium.make, whose own wrappers cannot bear the API of old and are taken off.
    """

    def __init__(self, make: Callable[[], gymnasium.Env]) -> None:
        self._luck = Luck()
        with self._luck:
            env = make()
        self._limit = float("inf")
        self._steps = 0
        while isinstance(env, OrderEnforcing | PassiveEnvChecker | TimeLimit):
            if isinstance(env, TimeLimit):
                self._limit = env._max_episode_steps
            env = env.env
        super().__init__(env)
        takes = inspect.signature(env.reset).parameters
        anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values())
        self._asked = [name for name in ("seed", "options") if anything or name in takes]

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        self._steps = 0
        given: dict[str, Any] = {"seed": seed, "options": options}
        if seed is not None:
            self._luck.seed(seed)
        with self._luck:
            if "seed" not in self._asked:
                self._seed_as_of_old(seed)
            came = self.env.reset(**{name: given[name] for name in self._asked})
        if isinstance(came, tuple) and len(came) == 2 and isinstance(came[1], dict | None):
            return came[0], came[1] or {}
        return came, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        with self._luck:
            came = self.env.step(action)
        self._steps += 1
        if not isinstance(came, tuple) or len(came) not in (4, 5):
            raise Misstep("step() gives neither the five things of today's API nor the four of old")
        picture, reward, *ends, info = came
        info = info or {}
        if len(ends) == 1:
            ends = [ends[0], info.get("TimeLimit.truncated", False)]
        over, truncated = (_end(value) for value in ends)
        terminated = over and not (truncated and len(came) == 4)  # of old, whatever ended was "done"
        return picture, _number(reward), terminated, truncated or self._steps >= self._limit, info

    def render(self) -> Any:
        draw: Any = self.env.render
        return draw(mode="rgb_array") if "mode" in inspect.signature(draw).parameters else draw()

    def _seed_as_of_old(self, seed: int | None) -> None:
        bare: Any = self.env.unwrapped
        if callable(getattr(bare, "seed", None)):
            bare.seed(seed)
        elif seed is not None:
            bare.np_random = gymnasium.utils.seeding.np_random(seed)[0]


def _number(reward: Any) -> float:
    value = np.asarray(reward)
    if value.size != 1 or value.dtype.kind not in "buif":
        raise Misstep(f"a reward that is no number: {str(reward)[:40]}")
    return float(value.item())


def _end(value: Any) -> bool:
    if value is True or value is False:
        return value
    one = np.asarray(value)
    if one.size != 1 or one.item() not in (0, 1):
        raise Misstep(f"an end that is neither true nor false: {str(value)[:40]}")
    return bool(one.item())
