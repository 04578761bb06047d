"""What happened once: an episode of T steps, and the line of time that everything else follows.

    obs[t] --action[t]--> reward[t], obs[t+1]            t = 0 .. T-1

T actions, T+1 observations. `terminated` and `truncated` speak of the last step: the world ended, or only the clock
ran out. At most one of them is true, and a time limit is never a termination.
"""

from dataclasses import dataclass

import numpy as np

OBS_SHAPE = (64, 64, 3)


@dataclass(frozen=True)
class Episode:
    """An episode of T >= 1 steps.

    Attributes:
        obs: uint8 (T+1, 64, 64, 3), what the agent saw.
        action: float32 (T, A) in [-1, 1], what it did.
        reward: float32 (T,), what it got for it.
        terminated: whether the last step ended the world.
        truncated: whether the last step met a time limit.
        seed: the seed that the environment was reset with.

    Raises:
        ValueError: if an invariant does not hold.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    truncated: bool
    seed: int

    def __post_init__(self) -> None:
        steps = len(self.action)
        problems = {
            "an episode has at least one step": steps < 1,
            "T actions need T+1 observations": len(self.obs) != steps + 1,
            "T actions need T rewards": self.reward.shape != (steps,),
            f"observations are uint8 (64, 64, 3), not {self.obs.dtype} {self.obs.shape[1:]}": (
                self.obs.dtype != np.uint8 or self.obs.shape[1:] != OBS_SHAPE
            ),
            "actions are float32 (T, A)": self.action.dtype != np.float32 or self.action.ndim != 2,
            "actions lie in [-1, 1]": not (np.abs(self.action) <= 1).all(),
            "rewards are finite float32": self.reward.dtype != np.float32 or not np.isfinite(self.reward).all(),
            "an episode cannot be both terminated and truncated": self.terminated and self.truncated,
        }
        for problem, present in problems.items():
            if present:
                raise ValueError(problem)

    def __len__(self) -> int:
        """The number of steps, T."""
        return len(self.action)

    @property
    def episode_return(self) -> float:
        """The sum of rewards."""
        return float(self.reward.sum(dtype=np.float64))
