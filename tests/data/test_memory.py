"""How much memory data takes while a model trains on it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import write_shard
from worldmodels.core.allocator import keep_freed_memory
from worldmodels.data.chunks import chunk_batches, read_obs
from worldmodels.data.episode import Episode
from worldmodels.data.frames import frame_batches
from worldmodels.data.rollouts import Rollouts

FRAMES = 2000
SIZE = FRAMES * 64 * 64 * 3 / 2**20  # MB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder / "0.h5", [still(FRAMES - 1), still(5)], {"env": "doom"})
    return folder


def still(steps: int) -> Episode:
    return Episode(
        obs=np.zeros((steps + 1, 64, 64, 3), np.uint8), action=np.zeros((steps, 1), np.float32),
        reward=np.ones(steps, np.float32), terminated=True, truncated=False, seed=0,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much memory a process has")
@pytest.mark.parametrize("kind", ["frames", "chunks"])
def test_shards_that_are_let_go_leave_nothing_behind_though_freed_memory_is_kept(folder: Path, kind: str) -> None:
    """Else those of many sizes leave holes that the next do not fit."""
    command = [sys.executable, "-m", "tests.data.test_memory", str(folder), kind]
    held, left = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert 0.8 * SIZE < held < 1.5 * SIZE and left < 0.3 * SIZE


def train_twice(folder: Path, kind: str) -> None:
    """Prints how many megabytes the second time takes, and leaves."""
    keep_freed_memory()
    held_of(folder, kind)
    before = resident()
    held = held_of(folder, kind)
    print(held - before, resident() - before)


def held_of(folder: Path, kind: str) -> float:
    """The megabytes that the process has while it trains."""
    rollouts = Rollouts(folder, "doom")
    if kind == "frames":
        batches = frame_batches(rollouts, 50, FRAMES, np.random.default_rng)
    else:
        batches = chunk_batches(rollouts, "obs", read_obs, 5, 10, FRAMES, np.random.default_rng)
    next(batches)
    return resident()


def resident() -> float:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_twice(Path(sys.argv[1]), sys.argv[2])
