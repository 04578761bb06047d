import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldmodels.core import checkpoint, files
from worldmodels.core.errors import UserError

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
arrays = st.lists(st.floats(-1e9, 1e9), max_size=5).map(lambda v: np.array(v, np.float64))
trees = st.recursive(
    scalars | arrays, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=5), t, max_size=3)
)


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(tree=st.dictionaries(st.text(max_size=5), trees, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, tree: dict) -> None:
    path = tmp_path_factory.mktemp("c") / "x.safetensors"
    checkpoint.save(path, "test", tree)
    assert same(tree, checkpoint.load(path, "test"))


def test_optimizer_state_with_integer_keys_survives(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint.save(tmp_path / "o", "test", optimizer.state_dict())
    loaded = checkpoint.load(tmp_path / "o", "test")
    assert list(loaded["state"]) == [0, 1]
    assert torch.equal(loaded["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 64
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, "test", {"x": torch.ones(100), "y": 3})
    flip(path, -10)
    with pytest.raises(UserError, match="checksum"):
        checkpoint.load(path, "test")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, dump) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        dump(Bomb(tmp_path / "exploded"), file)
    with pytest.raises(UserError, match="not a checkpoint of ours or is damaged"):
        checkpoint.load(path, "vision")
    assert not (tmp_path / "exploded").exists()


def test_damage_absence_and_another_kind_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match=r"model\.safetensors does not exist"):
        checkpoint.load(path, "vision")
    checkpoint.save(path, "memory", {"x": torch.ones(100)})
    with pytest.raises(UserError, match=r"should be a vision checkpoint .* this one is memory"):
        checkpoint.load(path, "vision")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"model\.safetensors .* damaged"):
        checkpoint.load(path, "memory")


def test_weights_of_another_shape_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m\.safetensors holds weights of another shape"):
        checkpoint.load_weights(torch.nn.Linear(2, 2), {"weight": torch.ones(3, 2)}, tmp_path / "m.safetensors")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_nothing_is_lost(small_disk: Path) -> None:
    from tests.conftest import make_episode, write_shard
    from worldmodels.data.shard import open_shard

    rng = np.random.default_rng(0)
    path, shard = small_disk / "c.safetensors", small_disk / "s.h5"
    checkpoint.save(path, "test", {"x": torch.ones(10)})
    write_shard(shard, [make_episode(rng, 5)], {"env": "x"})
    with pytest.raises(UserError, match=r"c\.safetensors could not be written .*No space left"):
        checkpoint.save(path, "test", {"x": torch.rand(10**6)})
    with pytest.raises(UserError, match=r"s\.h5 could not be written"):
        write_shard(shard, [make_episode(rng, 500)], {"env": "x"})
    assert checkpoint.load(path, "test")["x"].sum() == 10
    assert open_shard(shard).lengths.tolist() == [5]
    assert sorted(os.listdir(small_disk)) == ["c.safetensors", "s.h5"]


def test_what_is_equal_is_equal_to_the_bit(tmp_path: Path) -> None:
    """safetensors alone writes its header in an order that it draws anew each time."""
    written = set()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        checkpoint.save(path, "test", {"a": torch.arange(3), "b": 1.5, "c": [np.zeros(2)]})
        written.add(path.read_bytes())
    assert len(written) == 1
