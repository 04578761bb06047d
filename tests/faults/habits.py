"""Environments with the habits of those that users bring: `--env tests.faults.habits:Raises-v0`."""

import random
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodels.envs.foreign import GLOBAL  # numpy.random, whose generator is one for all


class Honest(gymnasium.Env):
    """A patch of light that the action moves for twenty steps; the others differ from it in one thing."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    brightest = 255

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space: spaces.Space = spaces.Box(0, self.brightest, (64, 64, 3), np.uint8)
        self.action_space: spaces.Space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = self.begin(), 0
        return self.picture(), {}

    def begin(self) -> np.ndarray:
        return self.np_random.uniform(5, 55, 2)

    def step(self, action: np.ndarray) -> Any:
        self.place = np.clip(self.place + action, 0, 60)
        self.steps += 1
        return self.picture(), float(self.place[0]) / 60, self.steps >= 20, False, {}

    def picture(self) -> Any:
        picture = np.zeros((64, 64, 3), np.uint8)
        x, y = self.place.astype(int)
        picture[y : y + 4, x : x + 4] = self.brightest
        return picture

    def render(self) -> Any:
        return self.picture()


class Raises(Honest):
    """Its simulator fails in an episode of four."""

    def step(self, action: np.ndarray) -> Any:
        if self.np_random.random() < 1 / 70:
            raise RuntimeError("simulator: state is invalid")
        return super().step(action)


class RaisesMostly(Honest):
    """Fails in two episodes of three, at their beginning."""

    def begin(self) -> np.ndarray:
        if self.np_random.random() < 2 / 3:
            raise RuntimeError("no room for the patch")
        return super().begin()


class RaisesAlways(Honest):
    """Fails at the third step."""

    def step(self, action: np.ndarray) -> Any:
        if self.steps == 2:
            raise ValueError("three is too many")
        return super().step(action)


class Dies(Honest):
    """Once it has failed it is of no more use; each that is made gets a number."""

    made = 0

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        Dies.made += 1
        self.dead = False

    def step(self, action: np.ndarray) -> Any:
        self.dead = self.dead or self.np_random.random() < 1 / 70
        if self.dead:
            raise RuntimeError("the engine is gone")
        return super().step(action)


class NanReward(Honest):
    """A reward is not a number in an episode of four."""

    def step(self, action: np.ndarray) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, float("nan") if self.np_random.random() < 1 / 70 else reward, *rest


class Odd(Honest):
    """Gives, at its third step, what is set here in place of one of the five things."""

    def __init__(self, render_mode: str | None = None, at: int = 0, what: Any = None) -> None:
        super().__init__(render_mode)
        self.at, self.what = at, what

    def step(self, action: np.ndarray) -> Any:
        came = list(super().step(action))
        if self.steps == 3:
            came[self.at] = self.what
        return tuple(came)


class Palette(Honest):
    """Pictures of sixteen levels, and says so."""

    brightest = 15


class FloatPalette(Honest):
    """Pictures from -1 to 1, and says so."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.observation_space = spaces.Box(-1, 1, (64, 64, 3), np.float32)

    def picture(self) -> Any:
        return (super().picture() / 127.5 - 1).astype(np.float32)


class FloatPictures(Honest):
    """Declares uint8, and shows float64."""

    def picture(self) -> Any:
        return super().picture().astype(np.float64)


class Dark(Honest):
    """Pictures of sixteen levels, and does not say so."""

    def picture(self) -> Any:
        return super().picture() // 17


class GlobalLuck(Raises):
    """Draws from the global generators, of numpy and of Python, at the beginning and at every step; and fails, too."""

    def begin(self) -> np.ndarray:
        return np.array([GLOBAL.uniform(5, 55), random.uniform(5, 55)])

    def step(self, action: np.ndarray) -> Any:
        return super().step(np.array([GLOBAL.normal(), random.gauss(0, 1)]))


class Arrays(Honest):
    """Numbers come as arrays of one; no info is None."""

    def step(self, action: np.ndarray) -> Any:
        obs, reward, terminated, _, _ = super().step(action)
        return obs, np.array([[reward]], np.float32), np.array([terminated]), np.zeros(1, np.int64), None


class Old(Honest):
    """The API before Gymnasium's; registered with a time limit of twelve steps."""

    def reset(self) -> Any:  # type: ignore[override]
        self.place, self.steps = self.begin(), 0
        return self.picture()

    def step(self, action: np.ndarray) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class Older(Old):
    """And before `np_random` was there: it seeds itself when told to."""

    def seed(self, seed: int | None = None) -> None:
        self.luck = np.random.RandomState(seed)

    def begin(self) -> np.ndarray:
        return self.luck.uniform(5, 55, 2)


class Wide(Honest):
    """Bounds that are as good as none."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        most = np.finfo(np.float32).max
        self.action_space = spaces.Box(np.array([-most, 0], np.float32), np.array([most, 4], np.float32))

    def step(self, action: np.ndarray) -> Any:
        self.given = action
        return super().step(action)


class DrawsAnything(Raises):
    """What it draws for people is grey, of floats, in a list, and of another, odd size at every step."""

    def render(self) -> Any:
        return [np.full((65 + self.steps, 81), self.steps / 20, np.float32)]


class DrawsOnce(Honest):
    """Its window closes after the first step."""

    def render(self) -> Any:
        if self.steps:
            raise OSError("no window")
        return super().render()


class DrawsNothing(Honest):
    """Draws nothing for people."""

    def render(self) -> Any:
        return None


for made in list(globals().values()):
    if isinstance(made, type) and issubclass(made, Honest):
        limit = 12 if issubclass(made, Old) else None
        gymnasium.register(f"{made.__name__}-v0", made, max_episode_steps=limit, disable_env_checker=True)
