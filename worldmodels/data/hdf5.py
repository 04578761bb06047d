"""HDF5 files of ours: sealed when written, and opened only if they are plain.

A file begins with a seal: 512 bytes that hold the SHA-256 of all that follows, which is the HDF5 file proper (HDF5
calls those bytes a user block, and any HDF5 tool passes over them). The seal is verified before HDF5 sees a single
byte, once per process and file as it is. Files written before there were seals begin with HDF5's own signature; they
have checksums of the numbers, but not of what says where those lie.

HDF5 can point elsewhere (links, external and virtual data), and its library comes to no end with some damaged files. So
a file is first looked at by a child process (data/inspector.py), in limited time, and refused if it is anything but
plain, local, chunked numbers of the types and shapes that its kind has.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from worldmodels.core import files
from worldmodels.core.errors import UserError
from worldmodels.data import inspector

SEAL_SIZE = 512  # bytes, the smallest that HDF5 allows
SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        noun: what to call it.
        format: its attribute "format".
        attributes: the other attributes, all strings.
        datasets: name -> type and shape, None where any size will do.
        foreign: what to do with a file of another kind.
        remedy: what to do with one that is damaged.
    """

    noun: str
    format: str
    attributes: tuple[str, ...]
    datasets: Mapping[str, tuple[str, tuple[int | None, ...]]]
    foreign: str
    remedy: str

    def damaged(self, path: Path, why: object) -> UserError:
        """The error to raise about a damaged file."""
        return UserError(f"{path} is damaged ({why}); {self.remedy}")


def pack(kind: Kind, fill: Callable[[h5py.File], None]) -> bytes:
    """A sealed file of `kind` with what `fill` puts into it.

    It is built in memory: when the disk is full, HDF5 fails in the middle of closing a file, and noisily.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=SEAL_SIZE) as file:
        fill(file)
        file.attrs["format"] = kind.format
    with buffer.getbuffer() as content:
        content[:SEAL_SIZE] = _seal(hashlib.sha256(content[SEAL_SIZE:]).hexdigest())
    return buffer.getvalue()


@contextmanager
def opened(path: Path, kind: Kind) -> Iterator[h5py.File]:
    """A file of `kind`, open to be read; whatever HDF5 says against it within the block counts as damage.

    Raises:
        UserError: if it is absent, cannot be read, is damaged, or is not such a file.
    """
    with files.opened(path) as raw:
        _approve(path, kind, raw)
        raw.seek(0)
        try:
            with h5py.File(raw, "r") as file:
                yield file
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            if getattr(error, "errno", None):  # the disk's, not HDF5's
                raise
            if "allocat" in str(error):
                raise MemoryError(str(error)) from error
            raise kind.damaged(path, error) from error


_approved: set[tuple[object, ...]] = set()


def _approve(path: Path, kind: Kind, raw: io.FileIO) -> None:
    """Verifies the seal and has the file looked at, unless this process has done so since it was last changed."""
    found = os.fstat(raw.fileno())
    identity = (kind.format, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if identity in _approved:
        return
    head = raw.read(SEAL_SIZE)
    if not head.startswith(SIGNATURE) and head != _seal(hashlib.file_digest(raw, "sha256").hexdigest()):
        raise kind.damaged(path, "its checksum is wrong")
    answer = inspector.look(path, kind.format, kind.attributes, kind.datasets)
    if answer == inspector.FOREIGN:
        raise UserError(f"{path} is not a {kind.noun} ({kind.format}); {kind.foreign}")
    if answer != inspector.PLAIN:
        raise kind.damaged(path, answer)
    _approved.add(identity)


def _seal(digest: str) -> bytes:
    return f"worldmodels, sha256 of what follows these {SEAL_SIZE} bytes: {digest}\n".encode().ljust(SEAL_SIZE, b"\0")
