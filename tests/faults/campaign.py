"""Random damage, many times: every file is read as it was, or its trouble is told; nothing else may happen.

A kind of file (kinds.py) is a whole file and what reads it. To add one, add it there; to add a way of damaging files,
add a function here.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels.core.errors import UserError

LIMIT = 90.0  # seconds that a reading may take before it counts as a hang; a reader's own limit is less

Damage = Callable[[bytearray, np.random.Generator], None]


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Args:
        name: for the table.
        file: what such a file is called.
        content: of a whole one.
        read: reads it as the program does: all that comes of it, as plain data and arrays.
    """

    name: str
    file: str
    content: bytes
    read: Callable[[Path], Any]


@dataclass
class Counts:
    """What came of it."""

    tried: int = 0
    told: int = 0  # in a line that names the file
    harmless: int = 0  # read as if nothing had happened
    silent: list[str] = field(default_factory=list)  # read as something else
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        bad = f"{len(self.silent)} | {len(self.tracebacks)} | {len(self.hangs)}"
        return f"{self.tried} | {self.told} | {self.harmless} | {bad}"

    @property
    def failures(self) -> list[str]:
        """All that may not be."""
        return [*self.silent, *self.tracebacks, *self.hangs]


def flip_a_bit(content: bytearray, rng: np.random.Generator) -> None:
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))


def flip_a_bit_near_the_start(content: bytearray, rng: np.random.Generator) -> None:
    """Where headers are."""
    content[int(rng.integers(min(4096, len(content))))] ^= 1 << int(rng.integers(8))


def cut(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


def swap_two_bytes(content: bytearray, rng: np.random.Generator) -> None:
    first, second = (int(at) for at in rng.integers(len(content), size=2))
    content[first], content[second] = content[second], content[first]


def zero_a_block(content: bytearray, rng: np.random.Generator) -> None:
    """As a disk does that lost a sector."""
    start = int(rng.integers(len(content))) // 512 * 512
    size = min(512, len(content) - start)
    content[start : start + size] = bytes(size)


def repeat_a_block(content: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(content))) // 512 * 512
    content[start:start] = content[start : start + 512]


def append_noise(content: bytearray, rng: np.random.Generator) -> None:
    content += rng.bytes(int(rng.integers(1, 600)))


DAMAGES: list[Damage] = [
    flip_a_bit, flip_a_bit_near_the_start, cut, swap_two_bytes, zero_a_block, repeat_a_block, append_noise,
]  # fmt: skip


def campaign(kind: FileKind, folder: Path, damaged: Iterator[tuple[str, bytes]]) -> Counts:
    """Reads each of some damaged files and counts what comes of it."""
    counts, good = Counts(), frozen(kind.read(_write(folder / "good", kind, kind.content)))
    for number, (how, content) in enumerate(damaged):
        if content == kind.content:
            continue
        path, began = _write(folder / str(number), kind, content), time.monotonic()
        counts.tried += 1
        try:
            found = frozen(kind.read(path))
        except UserError as error:
            counts.told += 1
            if kind.file not in str(error) and str(path.parent) not in str(error):
                counts.tracebacks.append(f"{how}: {error} names no file")
        except Exception as error:
            counts.tracebacks.append(f"{how}: {error!r}")
        else:
            if found == good:
                counts.harmless += 1
            else:
                counts.silent.append(how)
        if time.monotonic() - began > LIMIT:
            counts.hangs.append(how)
        path.unlink(missing_ok=True)
    return counts


def random_damage(kind: FileKind, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged versions of a file, by each of DAMAGES in turn."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        content, damage = bytearray(kind.content), DAMAGES[number % len(DAMAGES)]
        damage(content, rng)
        yield f"{kind.name}: {damage.__name__} {number}", bytes(content)


def every_bit(kind: FileKind, start: int, stop: int) -> Iterator[tuple[str, bytes]]:
    """The file with each of the bits of some bytes flipped, one at a time."""
    for at in range(start, stop):
        for bit in range(8):
            content = bytearray(kind.content)
            content[at] ^= 1 << bit
            yield f"{kind.name}: byte {at} bit {bit}", bytes(content)


def frozen(value: Any) -> Any:
    """Something equal to another such thing if and only if all numbers, types and shapes are, NaNs included."""
    if isinstance(value, torch.Tensor):
        return frozen(value.detach().cpu().float().numpy() if value.dtype == torch.bfloat16 else value.cpu().numpy())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, dict):
        return tuple((name, frozen(part)) for name, part in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    return (type(value).__name__, repr(value))


def _write(folder: Path, kind: FileKind, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / kind.file
    path.write_bytes(content)
    return path
