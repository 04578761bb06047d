"""Episodes that others recorded, in files of theirs: each kind of file has a reader, which this chooses."""

import functools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np
from PIL import Image

from worldmodels.core import files
from worldmodels.core.errors import UserError
from worldmodels.data import arrays, lerobot, minari
from worldmodels.data.recorded import Recording, Small

Read = Callable[[Path, FileIO, Mapping[str, str], Small], Iterator[Recording]]
"""A file, the same opened, what was typed of --keys, how pictures become observations -> what lies there.
Raises UserError naming the file if something is lacking, and any of UNREADABLE."""
SUFFIXES: dict[str, Read] = {".npz": arrays.npz, ".h5": arrays.hdf5, ".hdf5": arrays.hdf5}
DATASETS: dict[str, Read] = {minari.FILE: minari.minari, lerobot.FILE: lerobot.lerobot}
"""By the end of the path of the file that makes a folder such a dataset."""
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    Image.DecompressionBombError,
)
"""What readers raise about a file that is damaged, or another than its name says."""


def recordings(path: Path, typed: Mapping[str, str], small: Small) -> Iterator[Recording]:
    """All that lies in a file, or in a folder and its sub-folders.

    Args:
        path: to them.
        typed: one of NAMES -> what their files call it, where they have other names than usual.
        small: makes observations of pictures.

    Raises:
        UserError: if there is none, or one cannot be read or lacks what is needed; the message names it. Parts of a
            recording raise it, too.
    """
    found = [path] if path.is_file() else sorted(one for one in path.rglob("*") if _reader(one))
    if not found:
        known = ", ".join([*SUFFIXES, *DATASETS])
        raise UserError(f"--from {path} holds no {known}")
    for file in found:
        read = _reader(file)
        if read is None:
            raise UserError(f"--from {file} is none of {', '.join([*SUFFIXES, *DATASETS])}")
        with _readable(file), files.opened(file) as raw:
            for recording in read(file, raw, typed, small):
                parts = {name: functools.partial(_part, file, part) for name, part in recording.parts.items()}
                yield recording._replace(parts=parts)


def _reader(file: Path) -> Read | None:
    """Who reads a file of this name, if anyone."""
    for ending, read in DATASETS.items():
        if file.parts[-ending.count("/") - 1 :] == Path(ending).parts:
            return read
    return SUFFIXES.get(file.suffix)


def _part(file: Path, part: Callable[[], np.ndarray]) -> np.ndarray:
    with _readable(file):
        return np.atleast_1d(part())


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Raises UserError naming the file if what is done with it finds that it cannot be read."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(f"{file} cannot be read ({error})") from error
