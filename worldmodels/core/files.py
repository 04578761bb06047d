"""Files that are whole or absent, and files of others, which may be anything."""

import errno
import filecmp
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any, Literal

from worldmodels.core.errors import UserError

HELP = {
    errno.EACCES: "see to its permissions",
    errno.EPERM: "see to its permissions",
    errno.EMFILE: "this process has too many files open; raise its limit (ulimit -n)",
    errno.ENFILE: "this machine has too many files open; close some",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EIO: "its disk fails",
    errno.ESTALE: "its network disk is gone; mount it again",
}
"""What may help if a file cannot be read or written; none of these says anything about what it holds."""


ASIDE = re.compile(r"\..+\.(\d{1,9})\.tmp")
"""The name of a file that is being written: .NAME.PROCESS.tmp"""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, renamed to `path` once the block ends well.

    Whatever lay at `path` stays whole until then. No link is followed: what lay at either path is replaced by a file.
    Raises UserError if the disk refuses (full, read-only).
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(f"{path} could not be written ({reason}); what was there before is untouched") from error
    finally:
        if path.parent.is_dir():
            aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all."""
    with atomic(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def link(path: Path, other: Path) -> None:
    """Has `path` be the file `other`, too: by a hard link, or where disks differ as a copy.

    Raises:
        UserError: if another file is there, or the disk refuses.
    """
    if path.exists():
        if is_same(path, other):
            return
        raise UserError(f"{path} is there already, and is another file than {other}; move it away")
    with atomic(path) as aside:
        try:
            os.link(other.resolve(), aside)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):  # the last two: it knows no links
                raise
            shutil.copyfile(other, aside)


def is_same(path: Path, other: Path) -> bool:
    """Whether two are one file, or hold the same."""
    return path.samefile(other) or filecmp.cmp(path, other, shallow=False)


def check_writable(folder: Path) -> None:
    """Raises UserError if no file can be written in `folder`: better now than after hours of work. Leaves nothing, the
    folder itself included, if it was absent."""
    made = absent(folder)
    path = folder / f".writable-{os.getpid()}"
    write_bytes(path, b"")
    path.unlink()
    remove_empty(made)


def absent(folder: Path) -> list[Path]:
    """Which folders would have to be made for `folder` to be there: itself first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Removes folders, as long as nothing lies in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def sweep(folder: Path) -> None:
    """Removes what processes were writing in `folder` when they were killed, and nothing of those that still live.

    A command calls it before it writes there itself; so what bears its own number is left over, too, from another
    that had the same (in containers they repeat). Only the processes of this machine are known to live.

    Raises:
        UserError: if one of these files cannot be removed.
    """
    for path in folder.glob(".*.tmp"):
        found = ASIDE.fullmatch(path.name)
        if not found or _is_at_work(int(found[1])):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path} was left by a process that was killed; remove it ({error.strerror})") from error


def _is_at_work(process: int) -> bool:
    """Whether another process of that number lives."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def opened(path: Path) -> Iterator[FileIO]:
    """A regular file, open to be read; no named pipe or device, which could keep a reader waiting for ever.

    Raises:
        UserError: if it is absent, is no file, or cannot be read; the message says why.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with FileIO(handle) as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UserError(f"{path} is no regular file; nothing was read from it")
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        if error.errno is None:
            raise
        help_ = HELP.get(error.errno, "what it holds may well be whole")
        raise UserError(f"{path} cannot be read ({os.strerror(error.errno)}): {help_}") from error


def opened_to_write(path: Path, mode: Literal["a", "r+"]) -> IO[str]:
    """A regular file, made if there is none, to be written to; nothing in it is lost by that.

    Raises:
        UserError: if something else lies there: a link would be followed to wherever a stranger let it point.
        OSError: if it cannot be made or opened.
    """
    flags = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    refused = UserError(f"{path} is a link or no file at all; remove it, for it would be written to")
    try:
        handle = os.open(path, flags | (os.O_WRONLY | os.O_APPEND if mode == "a" else os.O_RDWR), 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise refused from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise refused
    return os.fdopen(handle, mode)


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file. Raises UserError as `opened` does, and if there are more than `most` bytes."""
    with opened(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise UserError(f"{path} is larger than any file of its kind ({most:,} bytes at most); it was not read")
        return file.readall()


def to_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that any parser reads: numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
