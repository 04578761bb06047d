from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.test_rollouts import rollouts
from worldmodels.core.errors import UserError
from worldmodels.data.frames import frame_batches
from worldmodels.data.portions import Table
from worldmodels.data.shard import Shard


def origins(batch: Table) -> list[tuple[int, ...]]:
    return [(*map(int, frame[0, 0, :2]), int(frame[0, 1, 0])) for frame in batch["obs"]]


def test_an_epoch_shows_every_training_frame_once_and_none_that_is_held_out(tmp_path: Path) -> None:
    data = rollouts(tmp_path, shards=4, episodes=3)
    batches = frame_batches(data, 14, 10**6, np.random.default_rng)
    seen = [origin for _ in range(4) for origin in origins(next(batches))]  # 4 shards x 2 episodes x 7 frames = 56
    assert len(set(seen)) == 56
    assert {episode for _, episode, _ in seen} == {0, 1}
    held = [episode.obs[0, 0, 0, 1] for episode in data.held_out()]
    assert held == [2, 2, 2, 2]
    again = [origin for _ in range(4) for origin in origins(next(batches))]
    assert set(again) == set(seen) and again != seen  # the next epoch has another order


@given(skip=st.integers(0, 25), buffer=st.sampled_from([1, 30, 10**6]))
def test_skipping_equals_having_read(tmp_path_factory: pytest.TempPathFactory, skip: int, buffer: int) -> None:
    data = rollouts(tmp_path_factory.mktemp("r"), shards=3, episodes=3)
    straight = frame_batches(data, 8, buffer, np.random.default_rng)
    for _ in range(skip):
        next(straight)
    resumed = frame_batches(data, 8, buffer, np.random.default_rng, skip)
    for _ in range(4):
        assert torch.equal(next(straight)["obs"], next(resumed)["obs"])


def test_memory_is_bounded_by_the_buffer_not_by_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rollouts(tmp_path, shards=12, episodes=3)  # 14 training frames each
    read: list[int] = []
    original = Shard.read

    def counting(self: Shard, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        rows = original(self, name, start, stop)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(Shard, "read", counting)
    batches = frame_batches(data, 10, 30, np.random.default_rng)
    next(batches)
    assert sum(read) <= 30  # of 168
    next(batches), next(batches)
    assert sum(read) <= 60


def test_what_fits_is_read_once_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rollouts(tmp_path, shards=4, episodes=3)
    batches = frame_batches(data, 14, 10**6, np.random.default_rng)
    first = [next(batches) for _ in range(4)]
    monkeypatch.setattr(Shard, "read", None)  # no second epoch asks the disk
    again = [next(batches) for _ in range(4)]
    assert {o for batch in again for o in origins(batch)} == {o for batch in first for o in origins(batch)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("buffer", [30, 10**6])
def test_on_a_gpu_the_same_batches_lie_there(tmp_path: Path, buffer: int) -> None:
    data = rollouts(tmp_path, shards=4, episodes=3)
    here = frame_batches(data, 10, buffer, np.random.default_rng)
    there = frame_batches(data, 10, buffer, np.random.default_rng, device=torch.device("cuda"))
    for _ in range(12):
        ours = next(there)["obs"]
        assert ours.is_cuda and torch.equal(ours.cpu(), next(here)["obs"])


def test_a_batch_larger_than_the_data_names_the_flag(tmp_path: Path) -> None:
    data = rollouts(tmp_path, shards=1, episodes=2)
    with pytest.raises(UserError, match="--batch-size 100 is more than the 7 training frames"):
        next(frame_batches(data, 100, 10, np.random.default_rng))
