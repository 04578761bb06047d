"""The real environment, led a step at a time; and what was met there, to set out from."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import Noise, integer
from worldmodels.data.episode import Episode
from worldmodels.dreams.spaces import FPS
from worldmodels.envs import make_env
from worldmodels.envs.checked import Misstep
from worldmodels.envs.images import to_obs
from worldmodels.envs.reused import numbers_in_an_action
from worldmodels.models.base import State, Vision, WorldModel
from worldmodels.models.perceive import perceive
from worldmodels.settings.envspec import EnvSpec

MOST_KEPT = 5000  # frames of an episode; 60 MB
AT_ONCE = 64  # frames that V encodes together


class Past(NamedTuple):
    """An episode from its beginning to some frame t."""

    seed: int
    obs: np.ndarray  # uint8 (t+1, 64, 64, 3)
    action: np.ndarray  # float32 (t, A)


def past_of(episode: Episode, frame: int) -> Past:
    """What happened until that frame."""
    return Past(episode.seed, episode.obs[: frame + 1], episode.action[:frame])


class Reality:
    """One environment of a page's own.

    Args:
        spec: which.
        vision: V, which looks at what it shows.

    Raises:
        UserError: if it cannot be made here.
    """

    def __init__(self, spec: EnvSpec, vision: Vision[Any]) -> None:
        self._env: Any = make_env(spec, shrink=False)
        self._vision = vision
        self._device = next(vision.parameters()).device
        self.rate = float(self._env.metadata.get("render_fps", FPS))
        self.action_size = numbers_in_an_action(self._env)
        self._seed = 0
        self._obs = list[np.ndarray]()
        self._actions = list[np.ndarray]()

    def begin(self, seed: int) -> None:
        """Another episode. Raises UserError if the environment fails."""
        self._seed = seed
        self._obs = []
        self._actions = []
        self.picture: np.ndarray = self._env.reset(seed=seed)[0]
        self._keep()

    def step(self, action: np.ndarray) -> tuple[float, str]:
        """Does `action`, float32 (A,).

        Returns:
            The reward, and why the episode is over with it: "" if it goes on.
        """
        try:
            self.picture, reward, terminated, truncated, _ = self._env.step(action)
        except Misstep as error:
            return 0.0, str(error)
        if len(self._obs) < MOST_KEPT:
            self._actions.append(action)
            self._keep()
        return reward, "over" if terminated else "out of time" if truncated else ""

    def lead_to(self, past: Past) -> list[float]:
        """Begins that episode and does again all that was done in it; returns the rewards.

        Raises:
            UserError: if something else comes of it than what was seen then.
        """
        self.begin(past.seed)
        rewards = []
        for action in past.action:
            reward, over = self.step(action)
            rewards.append(reward)
            if over:
                break
        same = len(self._obs) == len(past.obs) and bool((self.obs == past.obs[-1]).all())
        if not same:
            raise UserError("the real environment cannot be led there again: other things happen in it now")
        return rewards

    @property
    def obs(self) -> np.ndarray:
        """uint8 (64, 64, 3), the last picture as V is shown it."""
        obs: np.ndarray = to_obs([self.picture])[0]
        return obs

    @torch.no_grad()
    def seen(self) -> np.ndarray:
        """uint8 (64, 64, 3), what V makes of the last picture."""
        embed = self._vision.encode(torch.from_numpy(self.obs[None]).to(self._device))
        picture: np.ndarray = self._vision.decode(embed[:, : self._vision.code_size])[0].cpu().numpy()
        return picture

    @property
    def frames(self) -> Sequence[np.ndarray]:
        """What was seen in this episode."""
        return self._obs

    def past(self, frame: int) -> Past:
        """What happened in this episode until that frame."""
        size = self.action_size
        actions = np.array(self._actions[:frame], np.float32).reshape(-1, size)
        return Past(self._seed, np.stack(self._obs[: frame + 1]), actions)

    def close(self) -> None:
        """Frees it."""
        self._env.close()

    def _keep(self) -> None:
        self._obs.append(self.obs)


@torch.no_grad()
def remembered(model: WorldModel, past: Past) -> State:
    """The state, of one row, that has seen all of `past`."""
    device = model.starts.device
    noise = Noise([integer(past.seed, "seen")], model.noise_size, device)
    parts = torch.from_numpy(past.obs).split(AT_ONCE)
    embed = torch.cat([model.encode(part.to(device)) for part in parts])
    states = perceive(model, [embed], [torch.from_numpy(past.action)], noise)
    return next(itertools.islice(states, len(embed) - 1, None))
