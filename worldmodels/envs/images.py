"""Any Gymnasium environment whose observation is an image, and the one place where pictures become observations."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from worldmodels.core.errors import UserError
from worldmodels.data.episode import OBS_SHAPE

# What F.interpolate calls; but that lays planes behind one another, and turning them takes as long again.
_resize: Any = torch._C._nn._upsample_bilinear2d_aa


def to_obs(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 N x (H, W, 3) -> uint8 (N, 64, 64, 3), antialiased (triangle filter, aspect not kept: CLASSIC 1.1, step 1).

    The same filter as Pillow's, to within 1 of 255. Each becomes what it would alone, in half the time where there are
    many.
    """
    whole = np.stack(pictures)
    if whole.shape[1:] == OBS_SHAPE:
        return whole
    obs = np.empty((len(whole), *OBS_SHAPE), np.uint8)
    _resize(_planes(whole), OBS_SHAPE[:2], False, None, None, out=_planes(obs))
    return obs


def _planes(pictures: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) as torch's convolutions have it, (N, 3, H, W); the same memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


class Shrunk(gymnasium.ObservationWrapper):
    """Shows the pictures of an environment as observations, each as it comes."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, OBS_SHAPE, np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return to_obs([observation])[0]


class ImageEnv(gymnasium.Env):
    """Makes an image environment look like all of ours.

    Pictures uint8 (H, W, 3), (H, W, 1) or (H, W) become (H, W, 3). Actions: a bounded Box is scaled from
    [-1, 1]; a Discrete(n) takes the largest of n numbers; a MultiBinary(n) switches on what is above 0.

    Raises:
        UserError: if the observation is no such image or the action space is another.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env
        space = env.observation_space
        name = env.spec.id if env.spec else str(env)
        shape = space.shape or ()
        is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
        if not (is_image and isinstance(space, spaces.Box) and space.dtype == np.uint8):
            raise UserError(
                f"--env {name} shows {space}; an image is needed: Box of uint8 (H, W, 3), (H, W, 1) or (H, W)"
            )
        actions = env.action_space
        if isinstance(actions, spaces.Discrete):
            count = int(actions.n)
        elif isinstance(actions, spaces.MultiBinary) or (isinstance(actions, spaces.Box) and actions.is_bounded()):
            count = int(np.prod(actions.shape))
        else:
            raise UserError(f"--env {name} takes {env.action_space}; needed: Discrete, MultiBinary, or a bounded Box")
        self.action_space = spaces.Box(-1, 1, (count,), np.float32)
        self.observation_space = spaces.Box(0, 255, (*shape[:2], 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        picture, info = self.env.reset(seed=seed, options=options)
        return self.see(picture), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        picture, reward, terminated, truncated, info = self.env.step(self.to_native(action))
        return self.see(picture), float(reward), bool(terminated), bool(truncated), info

    def see(self, picture: np.ndarray) -> np.ndarray:
        """The environment's own picture in three colours; a copy, for many an environment draws into one for ever."""
        if picture.ndim == 2:
            picture = picture[..., None]
        return np.array(np.broadcast_to(picture, (*picture.shape[:2], 3)), order="C")

    def to_native(self, action: np.ndarray) -> Any:
        """An action in [-1, 1] as the environment's own."""
        space = self.env.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + int(np.argmax(action))
        if isinstance(space, spaces.MultiBinary):
            return (action > 0).astype(np.int8).reshape(space.shape)
        assert isinstance(space, spaces.Box)  # __init__ admits no other
        unit = (np.asarray(action, np.float64).reshape(space.shape) + 1) / 2
        return (space.low + unit * (space.high - space.low)).astype(space.dtype)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()
