"""The one place where everything that comes out of an environment is looked at, and named if it is wrong."""

import contextlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from worldmodels.core.errors import UserError

LARGEST = float(np.finfo(np.float32).max)  # rewards are kept as float32
SHOWN = 200  # characters of an error's own words


Info = dict[str, Any]
"""What an environment tells beside pictures and rewards."""


class Misstep(UserError):
    """An environment raised, or gave what nobody can use. An episode, not a run, is lost by it."""


class Checked(gymnasium.Wrapper):
    """Lets through what fits, and says of all else which environment, seed and step it was.

    An environment that raised is made anew before its next episode, for nobody knows in what state it is.

    Args:
        name: of the environment, as `--env` has it.
        make: makes it.
    """

    def __init__(self, name: str, make: Callable[[], gymnasium.Env]) -> None:
        self._name = name
        self._make = make
        super().__init__(self._made())
        self._seed: int | None = None
        self._step = 0
        self._broken = False
        self._shape = self.env.observation_space.shape

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Raises Misstep."""
        self._seed = seed
        self._step = 0
        if self._broken:
            self._renew()
        try:
            obs, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._told(error) from error
        self._look(obs)
        return obs, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Raises Misstep."""
        self._step += 1
        try:
            obs, paid, terminated, truncated, info = self.env.step(action)
            reward = float(paid)
        except Exception as error:
            raise self._told(error) from error
        if not -LARGEST <= reward <= LARGEST:  # which NaN is not, either
            raise self._misstep(f"a reward of {reward}")
        self._look(obs)
        return obs, reward, terminated, truncated, info

    def render(self) -> Any:
        """Raises UserError."""
        try:
            return self.env.render()
        except Exception as error:
            raise UserError(f"--env {self._name}: render() raises {_words(error)}") from error

    def _look(self, obs: np.ndarray) -> None:
        if not isinstance(obs, np.ndarray):
            raise self._misstep(f"a picture that is no array but a {type(obs).__name__}")
        if obs.shape != self._shape or obs.dtype != np.uint8:
            raise self._misstep(f"a picture of {obs.dtype} {obs.shape}, where its space says {self._shape}")

    def _told(self, error: Exception) -> Exception:
        """What to raise for an error that came out of the environment."""
        if isinstance(error, Misstep):
            return self._misstep(str(error))
        if isinstance(error, UserError | MemoryError):
            return error
        self._broken = True
        return self._misstep(_words(error))

    def _misstep(self, what: str) -> Misstep:
        when = f"step {self._step}" if self._step else "reset"
        return Misstep(f"--env {self._name}, seed {self._seed}, {when}: {what}")

    def _renew(self) -> None:
        with contextlib.suppress(Exception):  # that it is broken was told; another takes its place
            self.env.close()
        self.env = self._made()
        self._broken = False

    def _made(self) -> gymnasium.Env:
        try:
            return self._make()
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"--env {self._name} could not be made: {_words(error)}") from error


def _words(error: Exception) -> str:
    """One line of an error: its kind, what it says, and where it was raised."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())[:SHOWN]
    place = f"{Path(at.filename).name}:{at.lineno}"
    return f"{type(error).__name__}: {said} ({place})"
