"""What a killed process leaves behind is removed by the next; what a living one writes is not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldmodels.core import files
from worldmodels.core.errors import UserError

WRITER = """
import sys, time
from pathlib import Path
from worldmodels.core.files import atomic
with atomic(Path(sys.argv[1])) as aside:
    aside.write_bytes(b"half")
    print("at work", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing `shard.h5`."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "shard.h5")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "at work\n"
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_process_was_writing_goes_and_what_a_living_one_writes_stays(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    aside = tmp_path / f".shard.h5.{writer.pid}.tmp"
    files.sweep(tmp_path)
    assert aside.read_bytes() == b"half"
    writer.kill()
    writer.wait()
    files.sweep(tmp_path)
    assert not aside.exists()


def test_nothing_else_goes(tmp_path: Path) -> None:
    others = ("shard.h5", ".shard.h5.tmp", ".notes.txt", "shard.h5.1234.tmp", ".a.99999999999999999999.tmp")
    for name in others:
        (tmp_path / name).write_bytes(b"kept")
    (tmp_path / f".earlier.{os.getpid()}.tmp").write_bytes(b"of a process that had our number")
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    files.sweep(tmp_path / "absent")


def test_what_cannot_be_removed_is_named(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    writer.kill()
    writer.wait()
    (tmp_path / f".shard.h5.{writer.pid}.tmp").unlink()
    stuck = tmp_path / f".shard.h5.{writer.pid}.tmp"
    stuck.mkdir()
    with pytest.raises(UserError, match=rf"{stuck.name} was left by a process that was killed; remove it"):
        files.sweep(tmp_path)
