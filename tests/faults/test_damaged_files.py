"""A damaged file is told of, by name, and never read as something else; other trouble is not called damage."""

import contextlib
import dataclasses
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import World
from tests.faults.campaign import DAMAGES, Counts, FileKind, campaign, every_bit, random_damage
from tests.faults.kinds import ABOUT, episodes, kinds, old_shard, read_episodes, read_shard, shard
from worldmodels import models
from worldmodels.core import files
from worldmodels.core.errors import UserError
from worldmodels.data import inspector
from worldmodels.data.shard import pack_shard
from worldmodels.stages.train_vision import train_vision
from worldmodels.training.run import Run

NAMES = [
    "shard",
    "codes",
    "model",
    "model V",
    "controller",
    "actor",
    "state of training",
    "state of a search",
    "state of an actor",
    "state of PPO",
    "config.json",
    "old shard",
    "old codes",
    "old model",
    "old state of a search",
]


@pytest.fixture(scope="module")
def all_kinds(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileKind]:
    made = kinds(world, tmp_path_factory.mktemp("kinds"))
    assert list(made) == NAMES
    return made


@pytest.mark.parametrize("name", NAMES)
def test_random_damage_is_told_or_does_no_harm(all_kinds: dict[str, FileKind], tmp_path: Path, name: str) -> None:
    counts = campaign(all_kinds[name], tmp_path, random_damage(all_kinds[name], 3 * len(DAMAGES), seed=0))
    assert counts.failures == [] and counts.tried > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_campaign_of_random_damage(all_kinds: dict[str, FileKind], tmp_path: Path, name: str) -> None:
    counts = campaign(all_kinds[name], tmp_path, random_damage(all_kinds[name], 560, seed=1))
    print(f"\n{name} | {counts}")
    assert counts.failures == [] and counts.tried > 400


@pytest.mark.parametrize("name", ["shard", "codes", "model", "state of training", "state of a search"])
def test_every_damage_to_a_file_with_a_checksum_of_all_of_it_is_told(
    all_kinds: dict[str, FileKind], tmp_path: Path, name: str
) -> None:
    counts = campaign(all_kinds[name], tmp_path, every_bit(all_kinds[name], 508, 516))
    assert counts.told == counts.tried == 64 and counts.failures == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_an_old_shard_says_of_where_frames_lie_cannot_change_them_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first KB, every bit; such damage made 32 frames black, or the reader hang."""
    monkeypatch.setattr(inspector, "PATIENCE", 5.0)
    counts = campaign(FileKind("old shard", "0.h5", old_shard(), read_episodes), tmp_path, every_bit_of_start())
    print(f"\nfirst bytes of an old shard | {counts}")
    assert counts.failures == [] and counts.told > 300


def every_bit_of_start() -> Iterator[tuple[str, bytes]]:
    return every_bit(FileKind("old shard", "0.h5", old_shard(), read_shard), 0, 1024)


def test_a_file_is_verified_again_once_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "0.h5"
    path.write_bytes(shard())
    read_shard(path)
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"0\.h5 is damaged \(its checksum is wrong\)"):
        read_shard(path)


def test_spoilt_lines_of_the_metrics_cost_themselves_only(world: World, tmp_path: Path) -> None:
    whole = (world.run / "memory/metrics.jsonl").read_bytes()
    lines, rng = whole.decode().splitlines(), np.random.default_rng(0)
    assert len(lines) >= 3
    for number in range(20 * len(DAMAGES)):
        content = bytearray(whole)
        DAMAGES[number % len(DAMAGES)](content, rng)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "metrics.jsonl").write_bytes(content)
        untouched = set(lines) & set(content.decode(errors="replace").split("\n"))
        run = Run(folder, world.memory, "memory")
        assert untouched <= {files.to_json(line) for line in run.history()}
        run._drop_metrics_after(10**6)
        assert untouched <= set((folder / "metrics.jsonl").read_text().splitlines())
        run._locked.close()


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """As a user who owns nothing; root may read all."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def without_handles() -> Iterator[None]:
    """As a process that has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("trouble", "said"), [(without_rights, "Permission denied"), (without_handles, r"Too many open files.*ulimit")]
)
@pytest.mark.parametrize("name", ["shard", "model", "state of a search"])
def test_trouble_with_a_file_is_not_called_damage(
    all_kinds: dict[str, FileKind], tmp_path: Path, trouble: Callable, said: str, name: str
) -> None:
    kind = all_kinds[name]
    path = tmp_path / kind.file
    path.write_bytes(kind.content)
    kind.read(path)  # imports what it needs
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest-" in str(folder):
            folder.chmod(0o755)  # else it would be the folder that cannot be read
    with trouble(), pytest.raises(UserError, match=said) as told:
        kind.read(path)
    assert path.name in str(told.value) and "damaged" not in str(told.value) and "delete" not in str(told.value)


def test_a_failing_disk_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0.h5"
    path.write_bytes(shard())
    read_shard(path)

    def fails(self: FileIO, into: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "FileIO", type("Failing", (FileIO,), {"readinto": fails}))
    with pytest.raises(UserError, match=r"0\.h5 cannot be read \(Input/output error\): its disk fails"):
        read_shard(path)


READ_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from worldmodels.core.errors import command
from worldmodels.data.shard import open_shard

shard = open_shard(Path(sys.argv[1]))
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 20_000_000, -1))
command(lambda: shard.read("obs"))()
"""


def test_no_memory_is_not_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "0.h5"
    path.write_bytes(pack_shard(episodes(2, 6000), ABOUT))  # 147 MB, once it is read
    command = [sys.executable, "-c", READ_IN_LITTLE_MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: that takes more memory than there is")


def test_a_finished_stage_needs_no_metrics(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run / "vision", tmp_path / "vision")
    (tmp_path / "vision/metrics.jsonl").unlink()
    before = models.load_module(tmp_path / "vision", "vision")[0].state_dict()
    train_vision(dataclasses.replace(world.vision, run=tmp_path))
    after = models.load_module(tmp_path / "vision", "vision")[0].state_dict()
    assert all((before[name] == after[name]).all() for name in before)


def test_counts_tell_each_failure() -> None:
    counts = Counts(tried=3, told=1, silent=["a"], tracebacks=["b"])
    assert counts.failures == ["a", "b"] and str(counts) == "3 | 1 | 0 | 1 | 1 | 0"


def test_a_child_that_hangs_ends_though_nobody_waits_for_it_any_more() -> None:
    """The process that asked may have been killed: its child then kept a core busy for ever."""
    hanging = (
        "import time; from worldmodels.data import inspector; "
        "inspector._look = lambda *question: time.sleep(600); inspector.PATIENCE = 1.0; inspector.main()"
    )
    child = subprocess.Popen([sys.executable, "-c", hanging], stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(b'["/dev/null", "", [], {}]\n')
    child.stdin.flush()
    assert child.wait(timeout=60) == -signal.SIGALRM
