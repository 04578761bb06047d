"""A child process that opens HDF5 files before we do: it may hang or crash in our place.

It is started when first needed, answers one question at a time, and ends with the process that asked. It looks at all
that HDF5 will later follow: links, attributes, where each chunk of each dataset lies, and whether it unpacks to its
size. Then it reads: all of a file without a seal (hdf5.py), whose structure has no checksum; else the beginnings, for a
sealed file is as it was made.

    python -m worldmodels.data.inspector     reads questions from its standard input, one JSON a line
"""

import itertools
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLAIN = "plain"
FOREIGN = "foreign"
PATIENCE = 30.0  # seconds; HDF5 takes milliseconds, but the child must first be started, and the machine may be busy
SLOWEST = 5e6  # bytes that a disk gives a second
MEMORY = 4 << 30  # bytes of address space
LARGEST_CHUNK = 1 << 30  # bytes
ZSTD = 32015  # HDF5's numbers of the filters that we use
FLETCHER32 = 3
FILTERS = ([ZSTD, FLETCHER32], [FLETCHER32])
CHECKSUM = 4  # bytes of it
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

COMMAND = [sys.executable, "-P", "-m", "worldmodels.data.inspector"]  # -P: nothing of the folder where one works

Datasets = Mapping[str, tuple[str, tuple[int | None, ...]]]


def look(path: Path, format: str, attributes: tuple[str, ...], datasets: Datasets) -> str:
    """PLAIN if the file is what it should be, FOREIGN if it is of another kind, or else what is wrong with it.

    Args:
        path: of an HDF5 file.
        format: that its attribute of that name should have.
        attributes: names of the others, all strings.
        datasets: name -> type and shape, None where any size will do.
    """
    question = json.dumps([str(path.absolute()), format, list(attributes), dict(datasets)])
    with _lock:
        return _ask(question, _patience(path))


_lock = threading.Lock()
_child: list[subprocess.Popen[bytes]] = []  # the one that is running, if any


def _patience(path: str | Path) -> float:
    """Seconds that a file may take: a large one on a slow disk is whole all the same."""
    return PATIENCE + Path(path).stat().st_size / SLOWEST


def _ask(question: str, patience: float) -> str:
    if not _child or _child[0].poll() is not None:
        _child[:] = [_start()]
    child = _child[0]
    assert child.stdin is not None and child.stdout is not None
    answer = b""
    try:
        child.stdin.write(question.encode() + b"\n")
        child.stdin.flush()
        if not select.select([child.stdout], [], [], patience)[0]:
            return _end(f"HDF5 comes to no end with it in {patience:.0f} seconds")
        answer = child.stdout.readline()
    except BrokenPipeError:
        pass
    except BaseException:  # Ctrl-C: its answer would be taken for that to the next question
        _end("")
        raise
    return json.loads(answer) if answer.endswith(b"\n") else _end("HDF5 crashes on it")


def _end(why: str) -> str:
    for child in _child:
        child.kill()
        child.communicate()
    _child.clear()
    return why


def _start() -> subprocess.Popen[bytes]:
    home = str(Path(__file__).parents[2])
    places = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is not for it
    )


def main() -> None:
    """The child: answers until nobody asks any more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path, format, attributes, datasets = json.loads(line)
        signal.alarm(2 * int(_patience(path)))  # ends a child that hangs, though whoever asked was killed meanwhile
        print(json.dumps(_look(path, format, attributes, datasets)), flush=True)
        signal.alarm(0)


def _look(path: str, format: str, attributes: list[str], datasets: dict[str, Any]) -> str:
    import h5py
    import hdf5plugin  # noqa: F401 (registers zstd)

    try:
        with Path(path).open("rb", buffering=0) as raw, h5py.File(raw, "r") as file:
            if file.attrs.get("format") != format:
                return FOREIGN
            if odd := next((name for name in attributes if not isinstance(file.attrs.get(name), str)), None):
                return f"its {odd} is missing or is no string"
            links = {name: file.get(name, getlink=True) for name in file}
            if missing := datasets.keys() - links.keys():
                return f"{min(missing)} is missing"
            if odd := next((name for name, link in links.items() if type(link) is not h5py.HardLink), None):
                return f"{odd} lies elsewhere"
            for name, (dtype, shape) in datasets.items():
                if wrong := _wrong(file[name], dtype, shape):
                    return f"{name} {wrong}"
            for name in datasets:
                _read(file[name], whole=not file.userblock_size)
            return PLAIN
    except Exception as error:  # whatever HDF5 and numpy make of a damaged file; it is told
        return str(error) or type(error).__name__


def _wrong(data: Any, dtype: str, shape: list[int | None]) -> str:
    """What is wrong with a dataset: "" if it is plain, local, chunked, and each of its chunks is there, once."""
    import h5py

    if not isinstance(data, h5py.Dataset):
        return "is no dataset"
    fits = len(shape) == data.ndim and all(size in (None, n) for size, n in zip(shape, data.shape, strict=True))
    if data.dtype != dtype or not fits:
        return f"is {data.dtype} {data.shape}, which should be {dtype} {tuple(shape)}".replace("None", "any")
    plist = data.id.get_create_plist()
    if plist.get_layout() != h5py.h5d.CHUNKED or plist.get_external_count() or data.is_virtual:
        return "does not lie in this file, in chunks"
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters not in FILTERS:
        return "is compressed in another way than ours"
    size = int(data.dtype.itemsize)
    for length in data.chunks:
        size *= length
    if size > LARGEST_CHUNK:
        return "has chunks that are too large"
    return _wrong_chunks(data, filters, size)


def _wrong_chunks(data: Any, filters: list[int], size: int) -> str:
    chunks: list[Any] = []
    data.id.chunk_iter(chunks.append)
    asked = itertools.product(*(range(0, n, step) for n, step in zip(data.shape, data.chunks, strict=True)))
    if sorted(tuple(chunk.chunk_offset) for chunk in chunks) != list(itertools.islice(asked, len(chunks) + 1)):
        return "lacks some of its chunks"
    places = sorted((chunk.byte_offset, chunk.size) for chunk in chunks)
    if any(start + length > then for (start, length), (then, _) in itertools.pairwise(places)):
        return "has chunks that lie upon each other"
    for chunk in chunks:
        _, stored = data.id.read_direct_chunk(chunk.chunk_offset)
        unpacked = _zstd_size(stored) if ZSTD in filters else len(stored) - CHECKSUM
        if chunk.filter_mask or unpacked != size:  # HDF5 itself does not ask, and would read on beyond the chunk's end
            return "has a chunk that does not unpack to its size"
    return ""


def _zstd_size(frame: bytes) -> int:
    """Bytes that a zstd frame says it unpacks to (RFC 8878, 3.1.1.1), which zstd holds it to; -1 if it says nothing."""
    kind = frame[4] if len(frame) > 4 and frame[:4] == ZSTD_MAGIC else 0
    single = kind >> 5 & 1  # whether it is of one segment, and then tells no window
    size = (single, 2, 4, 8)[kind >> 6]  # of the field that we look for
    start = 6 - single + (0, 1, 2, 4)[kind & 3]  # after the window's size and the dictionary's number, if any
    if not size or len(frame) < start + size:
        return -1
    return int.from_bytes(frame[start : start + size], "little") + (256 if size == 2 else 0)


def _read(data: Any, whole: bool) -> None:
    """Reads a dataset, or its beginning, as HDF5 will be asked to."""
    step = data.chunks[0]
    for start in range(0, len(data) if whole else min(1, len(data)), step):
        data[start : start + step]


if __name__ == "__main__":
    main()
