"""Memory that is freed stays with the process, but for what is large and each time of another size."""

import ctypes
import math
import mmap

import numpy as np

M_TRIM_THRESHOLD = -1  # as in glibc's malloc.h
M_MMAP_THRESHOLD = -3
ALWAYS = 2**31 - 1
LARGE = 2**20  # bytes; a process may have some 65,000 blocks of pages


def keep_freed_memory() -> None:
    """Tells glibc not to hand large blocks back to the system, for each comes back at a page fault per 4 KB.

    A training step takes and frees the same blocks again and again: M trains a fifth faster. Other C libraries have no
    such setting, and nothing is changed there.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_TRIM_THRESHOLD, ALWAYS)
        mallopt(M_MMAP_THRESHOLD, ALWAYS)


def apart(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An array to be filled, whose memory goes back to the system when it is freed, whatever else is kept.

    For shards that are read, and what is made of them: among the blocks of a training step, the hole that one leaves
    seldom fits the next, and the process would grow by as much again.
    """
    kind = np.dtype(dtype)
    count = math.prod(shape)
    if count * kind.itemsize < LARGE:
        return np.empty(shape, kind)
    try:
        pages = mmap.mmap(-1, count * kind.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{count * kind.itemsize:,} bytes are not to be had: {error.strerror}") from error
    return np.frombuffer(pages, kind, count).reshape(shape)
