"""All shards of an environment, in one folder (shard.py: one of them)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from worldmodels.core.errors import UserError
from worldmodels.data.episode import Episode
from worldmodels.data.shard import Shard, open_shard
from worldmodels.settings.envspec import asked_by, to_agree

DIM = 64  # of 255; a collection without a brighter value is told of


def rollout_folder(data: Path) -> Path:
    """Where the shards of an environment lie."""
    return data / "rollouts"


class Rollouts:
    """All shards in a folder.

    Args:
        folder: e.g. data/doom/rollouts.
        env: the environment that they must come from.

    Raises:
        UserError: if there is none, one is damaged or foreign, or one comes from another environment.
    """

    def __init__(self, folder: Path, env: str) -> None:
        self.folder = folder
        self.shards = [open_shard(path) for path in sorted(folder.glob("*.h5"))]
        if not self.shards:
            others = sorted(str(p.parent) for p in folder.parent.parent.glob("*/rollouts"))
            hint = f" (--data with rollouts: {', '.join(others)})" if others else ""
            raise UserError(f"{folder} holds no rollouts; run pipelines/01_collect.py {asked_by(env)} first{hint}")
        for shard in self.shards:
            if shard.attributes["env"] != env:
                found = shard.attributes["env"]
                agreeing = to_agree(found, env)
                wanted = f"{agreeing} --data {folder.parent}, or another" if agreeing else "another --data"
                raise UserError(f"{shard.path} comes from env {found}, not {env}; give {wanted}")

    @property
    def fingerprint(self) -> str:
        """Changes with any episode of any shard."""
        return hashlib.sha256(" ".join(shard.fingerprint for shard in self.shards).encode()).hexdigest()[:12]

    @property
    def num_episodes(self) -> int:
        return sum(len(shard.lengths) for shard in self.shards)

    @property
    def num_steps(self) -> int:
        return int(sum(shard.lengths.sum() for shard in self.shards))

    @property
    def latest(self) -> list[Shard]:
        """The shards of the last round of collecting that has episodes to train on: all, if there was but one round."""
        trained_on = [shard for shard in self.shards if len(shard.split(held_out=False))]
        last = last_round(trained_on)
        return [shard for shard in trained_on if last_round([shard]) == last]

    @property
    def dark(self) -> str:
        """What is odd about the values of all pictures, if they never use their range of 0 to 255; else nothing."""
        levels = [shard.attributes.get("levels", (0, 255)) for shard in self.shards]  # older shards do not tell
        darkest = min(low for low, _ in levels)
        brightest = max(high for _, high in levels)
        if darkest == brightest:
            return f"all pictures are alike: nothing but {darkest}"
        if brightest < DIM:
            used = f"pictures use {darkest} to {brightest} of 0 to 255"
            return f"{used}: do the bounds of the environment's observation space say their true range?"
        return ""

    @cached_property
    def action_size(self) -> int:
        """Numbers in an action, as the first shard has them."""
        return int(self.shards[0].read("action", 0, 1).shape[1])

    def reward_moments(self) -> tuple[float, float]:
        """Mean and standard deviation of all rewards, read shard by shard."""
        total = 0.0
        squares = 0.0
        for shard in self.shards:
            reward = shard.read("reward").astype(np.float64)
            total += reward.sum()
            squares += (reward**2).sum()
        mean = total / self.num_steps
        return mean, float(np.sqrt(max(0.0, squares / self.num_steps - mean**2)))

    def rewards(self, percentiles: Sequence[float]) -> list[float]:
        """Percentiles of all rewards; 0 and 100 are the lowest and the highest."""
        found = np.concatenate([shard.read("reward") for shard in self.shards])
        return [float(value) for value in np.percentile(found, percentiles)]

    @property
    def training_frames(self) -> list[int]:
        """How many frames of each shard are for training: all but its last episode's."""
        return [int(shard.obs_starts[-2]) for shard in self.shards]

    def spread(self, limit: int, among: Sequence[Shard] | None = None) -> list[Shard]:
        """Up to `limit` shards, spread evenly over all, or over those that are named."""
        shards = self.shards if among is None else among
        return [shards[index] for index in evenly(len(shards), limit)]

    def held_out(self) -> Iterator[Episode]:
        """The last episode of every shard."""
        return (shard.episode(-1) for shard in self.shards)


def last_round(shards: Iterable[Shard]) -> int:
    """The last round of collecting that these are of: each controller makes one, after what was there before it.

    Shards of older versions do not tell, and count as of the first. 0 if there are no shards.
    """
    return max((int(shard.attributes.get("round", 1)) for shard in shards), default=0)


def evenly(count: int, limit: int) -> list[int]:
    """Up to `limit` of the numbers below `count`, spread evenly over all."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(limit, count)).round().astype(int)).tolist()
    return chosen
