"""A file that a stranger made runs nothing, reads nothing else, writes nowhere else, and keeps nobody waiting."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests.conftest import World, make_episode, write_shard
from tests.faults.kinds import episodes, sealed, shard, unsealed
from worldmodels import models
from worldmodels.core import checkpoint, errors, files, report
from worldmodels.core.errors import UserError
from worldmodels.data import inspector
from worldmodels.data import shard as shard_files
from worldmodels.data.rollouts import Rollouts
from worldmodels.data.shard import SHARD, open_shard
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.settings.models import MDNRNNSettings
from worldmodels.stages.train_vision import train_vision
from worldmodels.training.run import LOCK, Run

SECRET = b"the frames of somebody else " * 3000


def good(file: h5py.File) -> None:
    """What a shard holds."""
    about = {
        "env": "doom",
        "policy": "varied",
        "seed": 0,
        "max_steps": 50,
        "min_steps": 0,
        "shard_size": 3,
        "noise": 0.0,
    }
    shard_files._fill(file, episodes(), about)


def anew(file: h5py.File, name: str, make: Callable[[h5py.Dataset], None]) -> None:
    """Puts something else where a dataset was; `make` gets the old one."""
    file.move(name, "old")
    old = file["old"]
    make(old)
    del file["old"]


def external_storage(file: h5py.File, secret: Path) -> None:
    def make(old: h5py.Dataset) -> None:
        file.create_dataset("obs", old.shape, np.uint8, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    anew(file, "obs", make)


def external_link(file: h5py.File, secret: Path) -> None:
    def make(old: h5py.Dataset) -> None:
        file["obs"] = h5py.ExternalLink(str(secret), "obs")

    anew(file, "obs", make)


def soft_link(file: h5py.File, secret: Path) -> None:
    def make(old: h5py.Dataset) -> None:
        file.create_group("sub")
        file.copy(old, "sub/obs")
        file["obs"] = h5py.SoftLink("/sub/obs")

    anew(file, "obs", make)


def virtual_dataset(file: h5py.File, secret: Path) -> None:
    def make(old: h5py.Dataset) -> None:
        layout = h5py.VirtualLayout(old.shape, np.uint8)
        layout[:] = h5py.VirtualSource(str(secret), "obs", old.shape)
        file.create_virtual_dataset("obs", layout)

    anew(file, "obs", make)


def no_chunks(file: h5py.File, secret: Path) -> None:
    anew(file, "reward", lambda old: file.create_dataset("reward", data=old[:]) and None)


def frames_that_are_missing(file: h5py.File, secret: Path) -> None:
    def make(old: h5py.Dataset) -> None:
        options = {"chunks": old.chunks, "compression": 32015, "fletcher32": True}
        file.create_dataset("obs", old.shape, np.uint8, **options)[: old.chunks[0]] = old[: old.chunks[0]]

    anew(file, "obs", make)


def another_type(file: h5py.File, secret: Path) -> None:
    anew(file, "reward", lambda old: options(file, "reward", old[:].astype(np.int32)))


def another_shape(file: h5py.File, secret: Path) -> None:
    anew(file, "reward", lambda old: options(file, "reward", old[:][:, None]))


def another_filter(file: h5py.File, secret: Path) -> None:
    anew(file, "reward", lambda old: file.create_dataset("reward", data=old[:], compression="gzip") and None)


def a_group(file: h5py.File, secret: Path) -> None:
    anew(file, "reward", lambda old: file.create_group("reward") and None)


def a_chunk_that_unpacks_to_less(file: h5py.File, secret: Path) -> None:
    """HDF5 would take what lies behind it in memory for frames."""

    def make(old: h5py.Dataset) -> None:
        kwargs = {"chunks": old.chunks, "compression": 32015, "fletcher32": True}
        small = file.create_dataset("small", (1, 8, 8, 3), np.uint8, **(kwargs | {"chunks": (1, 8, 8, 3)}))
        small[:] = 7
        _, stored = small.id.read_direct_chunk((0, 0, 0, 0))
        del file["small"]
        obs = file.create_dataset("obs", old.shape, np.uint8, **kwargs)
        obs[:] = old[:]
        obs.id.write_direct_chunk((0, 0, 0, 0), stored)

    anew(file, "obs", make)


def options(file: h5py.File, name: str, values: np.ndarray) -> None:
    file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)


@pytest.mark.parametrize("make", [sealed, unsealed])
@pytest.mark.parametrize(
    "harm",
    [
        external_storage, external_link, soft_link, virtual_dataset, no_chunks, frames_that_are_missing, another_type,
        another_shape, another_filter, a_group, a_chunk_that_unpacks_to_less,
    ],
)  # fmt: skip
def test_only_plain_local_chunked_numbers_are_read(tmp_path: Path, harm: Callable, make: Callable) -> None:
    secret, path = tmp_path / "secret", tmp_path / "0.h5"
    secret.write_bytes(SECRET)

    def fill(file: h5py.File) -> None:
        good(file)
        harm(file, secret)

    path.write_bytes(make(SHARD, good))
    assert len(open_shard(path).read("obs")) == 63
    path.write_bytes(make(SHARD, fill))
    with pytest.raises(UserError, match=r"0\.h5 is damaged \((obs|reward) "):
        open_shard(path)


def trees(content: bytes, kind: int) -> Iterator[int]:
    """Where the nodes of HDF5's B-trees lie: of groups (0), or of chunks (1)."""
    at = content.find(b"TREE")
    while at >= 0:
        if content[at + 4] == kind:
            yield at
        at = content.find(b"TREE", at + 4)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_tree_that_is_its_own_child_keeps_nobody_waiting(tmp_path: Path, kind: int) -> None:
    content, began = unsealed(SHARD, good), time.monotonic()
    found = list(trees(content, kind))
    assert found
    for number, at in enumerate(found):
        looped = bytearray(content)
        looped[at + 5] = 1  # its level: its children are nodes
        for start in range(at + 24, min(at + 224, len(looped) - 8)):  # wherever the child's address is
            if 0 < int.from_bytes(looped[start : start + 8], "little") < len(looped):
                looped[start : start + 8] = at.to_bytes(8, "little")
        path = tmp_path / f"{number}.h5"
        path.write_bytes(looped)
        with pytest.raises(UserError, match=r"\d\.h5 is damaged"):
            open_shard(path)
    assert time.monotonic() - began < 120


def test_a_reader_that_hangs_or_crashes_is_told_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0.h5"
    path.write_bytes(shard())
    for does, said in (("while True: pass", "comes to no end"), ("import os; os.abort()", "crashes")):
        inspector._end("")
        monkeypatch.setattr(inspector, "PATIENCE", 1.0)
        monkeypatch.setattr(inspector, "COMMAND", [sys.executable, "-c", does])
        with pytest.raises(UserError, match=rf"0\.h5 is damaged \(HDF5 {said}"):
            open_shard(path)
        monkeypatch.undo()
        assert open_shard(path).attributes["env"] == "doom"
        os.utime(path, ns=(0, hash(does) % 10**9))  # so that it is looked at again


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.h5").write_bytes(shard())
    (tmp_path / "1.h5").write_bytes(sealed(SHARD, lambda file: None))

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspector.select, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_shard(tmp_path / "1.h5")
    monkeypatch.undo()
    assert open_shard(tmp_path / "0.h5").attributes["env"] == "doom"
    with pytest.raises(UserError, match=r"1\.h5 is damaged \(its about is missing"):
        open_shard(tmp_path / "1.h5")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["0.h5", "model.safetensors", "config.json", "metrics.jsonl", LOCK])
def test_a_named_pipe_keeps_nobody_waiting(world: World, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"anything")
    with pytest.raises(UserError, match=rf"{name} is (no regular file|a link or no file)"):
        if name == "0.h5":
            Rollouts(tmp_path, "doom")
        elif name == "model.safetensors":
            checkpoint.load(tmp_path / name, "vision")
        elif name == "metrics.jsonl":
            (tmp_path / "checkpoint.safetensors").unlink()
            Run(tmp_path, world.vision, "vision").rewind()
        else:
            Run(tmp_path, world.vision, "vision")


def test_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "0.h5").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"0\.h5 is no regular file"):
        open_shard(tmp_path / "0.h5")


def test_links_are_not_followed_when_a_run_is_written(world: World, tmp_path: Path) -> None:
    precious, run = tmp_path / "thesis.txt", tmp_path / "run"
    precious.write_text("years of work")
    run.mkdir()
    (run / LOCK).symlink_to(precious)
    with pytest.raises(UserError, match=r"\.lock is a link or no file"):
        Run(run, world.vision, "vision")
    (run / LOCK).unlink()
    (run / f".config.json.{os.getpid()}.tmp").symlink_to(precious)
    (run / "config.json").symlink_to(precious)
    (run / "metrics.jsonl").symlink_to(precious)
    begun = Run(run, world.vision, "vision")
    with pytest.raises(UserError, match=r"metrics\.jsonl is a link"):
        begun.log(1, {"loss": 1.0})
    begun.rewind()  # which writes it anew, as a file
    begun.log(1, {"loss": 1.0})
    begun.close()
    assert precious.read_text() == "years of work"
    assert not any(path.is_symlink() for path in run.iterdir())


def test_fresh_removes_a_link_and_not_what_it_points_to(world: World, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/thesis.txt").write_text("years of work")
    (tmp_path / "run").mkdir()
    for name in ("tensorboard", "model.safetensors"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    Run(tmp_path / "run", dataclasses.replace(world.vision, fresh=True), "vision")
    assert (tmp_path / "elsewhere/thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "run/tensorboard").is_symlink() and not (tmp_path / "run/model.safetensors").is_symlink()


def test_escape_codes_in_a_file_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    write_shard(
        tmp_path / "0.h5", [make_episode(rng, 3)] * 2, {"env": "\x1b[2Jdoom\r\n\x9b\u202e", "policy": "\x1b]0;"}
    )
    with pytest.raises(SystemExit):
        errors.command(lambda: Rollouts(tmp_path, "doom") and None)()
    report.say(report.table("title", ("policy",), [(open_shard(tmp_path / "0.h5").attributes["policy"],)]))
    printed = "".join(capsys.readouterr())
    assert r"\x1b[2Jdoom" in printed and r"\x1b]0;" in printed and "\\u202e" in printed
    assert not any(code in printed for code in ("\x1b", "\x9b", "\r", "\u202e"))


def test_nesting_and_size_are_bounded(world: World, tmp_path: Path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    path = tmp_path / "x.safetensors"
    for tree in (deep, '{"$dict": ' * 300 + "1" + "}" * 300):
        path.write_bytes(save({}, {"format": "worldmodels-1", "kind": "test", "tree": tree, "versions": "{}"}))
        with pytest.raises(UserError, match=r"x\.safetensors is not a checkpoint of ours or is damaged"):
            checkpoint.load(path, "test")
    (tmp_path / "checkpoint.safetensors").write_bytes(b"")
    for content in (deep, json.dumps({"a": "x" * (1 << 20)})):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=r"config\.json is (damaged|larger than any)"):
            Run(tmp_path, world.vision, "vision")._locked.close()


def test_a_model_that_announces_more_than_its_file_holds_takes_no_memory(tmp_path: Path) -> None:
    module = MDNRNN(MDNRNNSettings(hidden_size=8), 4, 1)
    tree = {"family": module.family, "config": module.config | {"hidden_size": 60_000}}  # 58 GB
    told = {"weights": module.state_dict(), "vision_fingerprint": "x", "starts": torch.zeros(1, 8)}
    checkpoint.save(tmp_path / models.FILE, "memory", tree | told)
    with pytest.raises(UserError, match=r"model\.safetensors holds weights of another shape"):
        models.load_module(tmp_path, "memory")


def test_what_cannot_be_written_is_told_before_v_is_trained(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.data / "rollouts", tmp_path / "data/rollouts")
    (tmp_path / "data/codes").write_text("no folder")
    with pytest.raises(UserError, match=r"data/codes.* could not be written"):
        train_vision(dataclasses.replace(world.vision, data=tmp_path / "data", run=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_number_that_is_not_finite_leaves_json_that_any_parser_reads(world: World, tmp_path: Path) -> None:
    def strict(constant: str) -> None:
        raise AssertionError(constant)

    run = Run(tmp_path, world.vision, "vision")
    run.rewind()
    run.log(1, {"loss": float("nan"), "kl": float("inf"), "other": 2.5})
    run.close()
    (line,) = [
        json.loads(text, parse_constant=strict) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert line["loss"] is None and line["kl"] is None and line["other"] == 2.5
    (read,) = run.history()
    assert np.isnan(read["loss"]) and read["other"] == 2.5
    assert json.loads(files.to_json({"r2": [(float("nan"), 1)]}), parse_constant=strict) == {"r2": [[None, 1]]}


def test_modules_that_lie_where_one_works_are_not_taken_for_pythons(tmp_path: Path) -> None:
    """Neither by the child that opens files first, nor by workers."""
    marker = tmp_path / "ran"
    for name in ("resource", "h5py", "hdf5plugin", "multiprocess", "dill"):
        (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write({name!r})")
    common = "--env doom --preset tiny --workers 1"
    for words in (
        f"collect {common} --episodes 4 --shard-size 2 --max-steps 20",
        f"train-vision {common} --steps 1 --batch-size 4",
    ):
        command = [sys.executable, "-P", "-m", "worldmodels", *words.split()]  # as the installed script begins
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
    assert not marker.exists(), marker.read_text()
