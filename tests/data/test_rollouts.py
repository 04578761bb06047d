from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import make_episode, write_shard
from worldmodels.core.errors import UserError
from worldmodels.data.rollouts import Rollouts
from worldmodels.settings.envspec import to_agree


def rollouts(folder: Path, shards: int, episodes: int, steps: int = 6) -> Rollouts:
    rng = np.random.default_rng(0)
    for i in range(shards):
        made = [make_episode(rng, steps) for _ in range(episodes)]
        for j, episode in enumerate(made):  # a frame tells where it comes from
            episode.obs[:, 0, 0] = (i, j, 0)
            episode.obs[:, 0, 1, 0] = np.arange(steps + 1)
        write_shard(folder / f"{i}.h5", made, {"env": "doom"})
    return Rollouts(folder, "doom")


def test_reward_moments_are_those_of_all_rewards(tmp_path: Path) -> None:
    data = rollouts(tmp_path, shards=3, episodes=2)
    rewards = np.concatenate([shard.read("reward") for shard in data.shards]).astype(np.float64)
    assert data.reward_moments() == pytest.approx((rewards.mean(), rewards.std()))


def test_damaged_foreign_and_misplaced_shards_are_named(tmp_path: Path) -> None:
    rollouts(tmp_path, shards=2, episodes=2)
    with pytest.raises(UserError, match=r"0\.h5 comes from env doom, not carracing; give another --data"):
        Rollouts(tmp_path, "carracing")
    with pytest.raises(
        UserError, match=r"comes from env doom, not doom x4; give --action-repeat 1 --data .*, or another"
    ):
        Rollouts(tmp_path, "doom x4")
    assert (
        to_agree("doom x2 x2", "doom x4") == "" and to_agree("doom x2 + noise", "doom + noise") == "--action-repeat 2"
    )
    whole = (tmp_path / "1.h5").read_bytes()
    (tmp_path / "1.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"1\.h5 is damaged"):
        Rollouts(tmp_path, "doom")
    (tmp_path / "1.h5").write_text("not HDF5 at all")
    with pytest.raises(UserError, match=r"1\.h5 is damaged"):
        Rollouts(tmp_path, "doom")
    (tmp_path / "1.h5").unlink()
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["something"] = 1
    with pytest.raises(UserError, match=r"1\.h5 is not a rollout shard"):
        Rollouts(tmp_path, "doom")
    for label, flags in (
        ("doom", "--env doom"),
        ("doom x4 + noise", "--env doom --action-repeat 4 and the same --distractor"),
        ("carracing x4", "--env carracing"),
        ("doom + authors' pixels", "--env doom --authors-pixels"),
        ("carracing", "--env carracing --action-repeat 1"),
    ):
        with pytest.raises(UserError, match=rf"holds no rollouts; run pipelines/01_collect\.py {flags} first"):
            Rollouts(tmp_path / "nowhere", label)
