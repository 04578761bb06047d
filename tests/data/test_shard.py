import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_episode, write_shard
from tests.core.test_checkpoint import flip
from worldmodels.core.errors import UserError
from worldmodels.data import shard as shard_files
from worldmodels.data.episode import Episode
from worldmodels.data.shard import open_shard, pack_shard


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_every_episode_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    episodes = [make_episode(rng, n, terminated=bool(rng.integers(2))) for n in lengths]
    path = tmp_path_factory.mktemp("s") / "shard.h5"
    write_shard(path, episodes, {"env": "doom", "seed": 3})
    shard = open_shard(path)
    assert shard.attributes["env"] == "doom" and shard.attributes["seed"] == 3
    assert shard.attributes["versions"]["numpy"] == np.__version__
    for index, episode in enumerate(episodes):
        found = shard.episode(index)
        for name in ("obs", "action", "reward"):
            assert np.array_equal(getattr(found, name), getattr(episode, name))
            assert getattr(found, name).dtype == getattr(episode, name).dtype
        assert (found.terminated, found.truncated, found.seed) == (
            episode.terminated, episode.truncated, episode.seed,
        )  # fmt: skip


def test_episodes_are_let_go_while_others_are_played() -> None:
    rng, alive = np.random.default_rng(0), list[weakref.ref]()

    def played() -> Iterator[Episode]:
        for number in range(6):
            if number > 1:  # all but the last, which the caller still holds
                wait_until(lambda: all(frames() is None for frames in alive[:-1]))
            episode = make_episode(rng, 40)
            alive.append(weakref.ref(episode.obs))
            yield episode
            del episode

    pack_shard(played(), {"env": "doom"})
    assert len(alive) == 6


def test_what_goes_wrong_while_compressing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(obs: h5py.Dataset, frames: np.ndarray) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(shard_files, "_append", full)
    with pytest.raises(MemoryError, match="no room"):
        pack_shard([make_episode(np.random.default_rng(0), 3)], {"env": "doom"})


def test_a_shard_holds_an_episode() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        pack_shard([], {"env": "doom"})


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["obs", "action", "reward", "length"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    path, rng = tmp_path / "0.h5", np.random.default_rng(0)
    write_shard(path, [make_episode(rng, 20), make_episode(rng, 9)], {"env": "doom"})
    with h5py.File(path) as file:
        at = file[name].id.get_chunk_info(0).byte_offset
    flip(path, at + 5)
    with pytest.raises(UserError, match=r"0\.h5 is damaged"):
        open_shard(path).read(name)
