"""Any Gymnasium environment that shows images; and the one place where pictures become observations."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from worldmodels.core.errors import UserError
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.envs.checked import Info, Misstep

# An action's number that may go further has no bounds, whatever its space says, and gets [-1, 1].
UNBOUNDED = 1e9
# What F.interpolate calls; but that lays planes behind one another, and turning them takes as long again.
_resize: Any = torch._C._nn._upsample_bilinear2d_aa


def to_obs(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 N x (H, W, 3) -> uint8 (N, 64, 64, 3), antialiased, the aspect not kept (CLASSIC 1.1, step 1).

    The triangle filter is Pillow's, to within 1 of 255. Each becomes what it would alone, in half
    the time where there are many.
    """
    whole = np.stack(pictures)
    if whole.shape[1:] == OBS_SHAPE:
        return whole
    obs = np.empty((len(whole), *OBS_SHAPE), np.uint8)
    _resize(_planes(whole), OBS_SHAPE[:2], False, None, None, out=_planes(obs))
    return obs


def as_authors(picture: np.ndarray) -> np.ndarray:
    """What the authors' code makes of a picture uint8 (H, W, 3): uint8 (64, 64, 3) (CLASSIC 1.1, steps 1 and 2).

    Its brightest and darkest numbers become 255 and 0, it is made small, and 1 is taken away, of 0 too, which
    becomes 255: theirs by accident, and what their weights have learnt to see.
    """
    levels = picture.astype(np.float64) - picture.min()
    spread = np.floor(levels * (255 / max(1.0, levels.max())) + 0.5).astype(np.uint8)
    obs: np.ndarray = to_obs([spread])[0]
    return obs - np.uint8(1)


def _planes(pictures: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) as torch's convolutions have it, (N, 3, H, W); the same memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


class Shrunk(gymnasium.ObservationWrapper):
    """Shows the pictures of an environment as observations, each as it comes."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, OBS_SHAPE, np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        obs: np.ndarray = to_obs([observation])[0]
        return obs


class ImageEnv(gymnasium.Env):
    """Makes an image environment look like all of ours.

    Pictures (H, W, 3), (H, W, 1) or (H, W), of any numbers within the bounds that their space declares,
    become uint8 (H, W, 3) from 0 to 255. Actions: a bounded Box is scaled from [-1, 1]; a number of it that
    may go beyond `UNBOUNDED` gets [-1, 1] as it is. A Discrete(n) takes the largest of n numbers; a
    MultiBinary(n) switches on what is above 0.

    Raises:
        UserError: if the observation is no such image or the action space is another.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env
        space = env.observation_space
        name = env.unwrapped.spec.id if env.unwrapped.spec else str(env)
        shape = space.shape or ()
        is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
        if not (is_image and isinstance(space, spaces.Box) and _spans(space.low.min(), space.high.max())):
            needed = "an image is needed: a bounded Box of (H, W, 3), (H, W, 1) or (H, W)"
            raise UserError(f"--env {name} shows {space}; {needed}")
        self._darkest = float(space.low.min())
        self._brightest = float(space.high.max())
        self._as_it_is = (self._darkest, self._brightest) == (0, 255)
        self.action_space = spaces.Box(-1, 1, (_numbers(env.action_space, name),), np.float32)
        if isinstance(env.action_space, spaces.Box):
            self._low, self._high = _bounds(env.action_space)
        self.observation_space = spaces.Box(0, 255, (*shape[:2], 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        super().reset(seed=seed)
        picture, info = self.env.reset(seed=seed, options=options)
        return self.see(picture), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        picture, reward, terminated, truncated, info = self.env.step(self.to_native(action))
        return self.see(picture), float(reward), bool(terminated), bool(truncated), info

    def see(self, picture: np.ndarray) -> np.ndarray:
        """The environment's own picture in three colours; a copy, for many draw into one array for ever."""
        picture = np.asarray(picture)
        if not (self._as_it_is and picture.dtype == np.uint8):
            picture = self._scaled(picture)
        if picture.ndim == 2:
            picture = picture[..., None]
        if picture.shape[-1:] == (1,):
            picture = np.broadcast_to(picture, (*picture.shape[:-1], 3))
        return np.array(picture, order="C")

    def _scaled(self, picture: np.ndarray) -> np.ndarray:
        """uint8, from what lies between the bounds that the space declares."""
        if picture.dtype.kind not in "buif" or not picture.size:
            raise Misstep("a picture that is none: it has no numbers")
        levels = (picture.astype(np.float32) - self._darkest) * (255 / (self._brightest - self._darkest))
        if not (levels.min() >= -0.5 and levels.max() <= 255.5):  # which NaN is not, either
            shown = (picture.min(), picture.max())
            declared = (self._darkest, self._brightest)
            told = "a picture of {:g} to {:g}, where its space says {:g} to {:g}"
            raise Misstep(told.format(*shown, *declared))
        return levels.clip(0, 255).round().astype(np.uint8)

    def to_native(self, action: np.ndarray) -> Any:
        """An action in [-1, 1] as the environment's own."""
        space = self.env.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + int(np.argmax(action))
        if isinstance(space, spaces.MultiBinary):
            return (action > 0).astype(np.int8).reshape(space.shape)
        assert isinstance(space, spaces.Box)  # __init__ admits no other
        unit = (np.asarray(action, np.float64).reshape(space.shape) + 1) / 2
        return (self._low + unit * (self._high - self._low)).astype(space.dtype)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()


def from_native(actions: np.ndarray, space: spaces.Space[Any]) -> np.ndarray:
    """Actions (T, ...) in an environment's own space as ours, float32 (T, A): what `ImageEnv.to_native` undoes.

    The space is one that `ImageEnv` takes. A number of a Box that has but one value becomes 0.
    """
    if isinstance(space, spaces.Discrete):
        chosen = actions.reshape(-1, 1) - int(space.start)
        return np.where(chosen == np.arange(int(space.n)), 1, -1).astype(np.float32)
    flat = actions.reshape(len(actions), -1)
    if isinstance(space, spaces.MultiBinary):
        return np.where(flat > 0, 1, -1).astype(np.float32)
    assert isinstance(space, spaces.Box)
    low, high = (bound.astype(np.float64).ravel() for bound in _bounds(space))
    span = high - low
    unit: np.ndarray = np.divide(flat - low, span, out=np.full(flat.shape, 0.5), where=span > 0)
    ours: np.ndarray = (2 * unit - 1).astype(np.float32)
    return ours


def _spans(low: float, high: float) -> bool:
    """Whether these are bounds that numbers can be scaled by."""
    return bool(np.isfinite(low) and np.isfinite(high) and 0 < high - low < UNBOUNDED)


def _numbers(actions: spaces.Space[Any], name: str) -> int:
    """How many numbers stand for an action of ours. Raises UserError if these actions cannot be taken."""
    if isinstance(actions, spaces.Discrete):
        return int(actions.n)
    bounded = isinstance(actions, spaces.Box) and actions.is_bounded()
    if not (bounded or isinstance(actions, spaces.MultiBinary)):
        raise UserError(f"--env {name} takes {actions}; needed: Discrete, MultiBinary, or a bounded Box")
    return int(np.prod(actions.shape or ()))


def _bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """What an action's numbers go from and to; [-1, 1] where the space's bounds are as good as none."""
    low = np.array(space.low, np.float64)
    high = np.array(space.high, np.float64)
    wide = np.maximum(np.abs(low), np.abs(high)) >= UNBOUNDED
    if not wide.any():
        return space.low, space.high
    return np.where(wide, low.clip(-1, 0), low), np.where(wide, high.clip(0, 1), high)


def to_picture(frame: Any) -> np.ndarray:
    """Whatever an environment draws for people as uint8 (H, W, 3).

    Args:
        frame: uint8, or floats in [0, 1] or [0, 255]; (H, W, 3), (H, W, 4), whose last is left out,
            (H, W, 1) or (H, W); a list or an array of several, whose last is taken; anything else
            that numpy takes for an array.

    Raises:
        UserError: if it is none of these; the message says what it is.
    """
    if isinstance(frame, list | tuple) and len(frame) and isinstance(frame[-1], np.ndarray):
        frame = frame[-1]
    picture = np.asarray(frame)
    picture = picture[-1] if picture.ndim == 4 and len(picture) else picture
    is_picture = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (1, 3, 4))
    if picture.dtype.kind not in "buif" or not is_picture or not picture.size:
        what = f"{picture.dtype} {picture.shape}" if picture.ndim else type(frame).__name__
        raise UserError(f"render() gives {what}, which is no picture")
    if picture.dtype != np.uint8:
        picture = np.nan_to_num(picture.astype(np.float32))
        picture = (picture * (255 if picture.max() <= 1 else 1)).clip(0, 255).round().astype(np.uint8)
    picture = picture[..., None] if picture.ndim == 2 else picture[..., :3]
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
