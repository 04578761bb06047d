"""What an estimate consists of, how speeds are measured, and how it is told."""

import resource
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from worldmodels.core import distributed, progress
from worldmodels.core.report import say, table

LONG_ENOUGH = 2.0  # seconds of measuring after which a speed is believed,
IN_PASSING = 0.4  # and if `worldmodels run` asks, which begins as soon as it is answered
FRAME = 64 * 64 * 3  # bytes


class Cost(NamedTuple):
    """Something that happens `times` and takes a core `each` seconds, by `cores` at a time (in mean)."""

    name: str
    each: float
    times: float
    source: str  # of `each`, and of `times` where the command line does not say it
    cores: float = 1

    @property
    def seconds(self) -> float:
        return self.each * self.times / self.cores


class Size(NamedTuple):
    """Bytes on disk or in memory."""

    name: str
    bytes: float
    source: str


def long_enough() -> float:
    """Seconds of measuring after which a speed is believed."""
    return IN_PASSING if progress.is_told() else LONG_ENOUGH


def seconds_per(work: Callable[[int], float], most: int = 10**9) -> float:
    """Seconds per unit of work, measured over more and more of it until that takes long enough to believe.

    Args:
        work: does about so many units, and says how many they were.
        most: units that it can do.
    """
    count = min(2, most)
    work(1)  # what is only slow for the first time
    while True:
        began = time.perf_counter()
        done = work(count)
        took = time.perf_counter() - began
        if took > long_enough() / 2 or count == most:
            return took / max(1.0, done)
        count = min(most, int(count * min(10.0, max(2.0, long_enough() / took))))


def own_memory() -> Size:
    """The most that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Size("memory: this process", peak, "its peak while measuring, libraries included")


def show(title: str, costs: list[Cost], sizes: list[Size]) -> float:
    """Prints the estimate: times with their total, then disk and memory. Returns the seconds in all."""
    total = sum(cost.seconds for cost in costs)
    if progress.is_told() or not distributed.is_main():
        return total
    times = [_row(cost) for cost in costs]
    times += [("total", "", "", "", _time(total), "but plots, films and starting up")]
    say(table(title, ("", "each", "times", "cores", "in all", "from"), times))
    megabytes = [(size.name, f"{size.bytes / 1e6:,.1f}", size.source) for size in sizes]
    say(table("Disk and memory", ("", "MB", "from"), megabytes))
    return total


def _row(cost: Cost) -> tuple[str, ...]:
    times = f"{cost.times:,.0f}"
    cores = f"{cost.cores:.3g}"
    return cost.name, _time(cost.each), times, cores, _time(cost.seconds), cost.source


def _time(seconds: float) -> str:
    for unit, factor in (("h", 1 / 3600), ("min", 1 / 60), ("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
