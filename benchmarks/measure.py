"""Rates measured side by side: machines are noisy, ratios within one round are less so."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Work = Callable[[], float]
"""Does some work and says how much it was, in the row's unit."""


class Row(NamedTuple):
    """One line of the table. `reference` is what the obvious code does; `limit` what nothing can pass."""

    name: str
    unit: str
    ours: Work
    reference: Work | None = None
    limit: Work | None = None
    times_reference: float = 0.0  # what ours must reach
    of_limit: float = 0.0
    timed: bool = True  # else what the work returns is what counts, however long it takes


class Ratio(NamedTuple):
    """Over the rounds."""

    median: float
    low: float
    high: float
    must: float

    @property
    def reached(self) -> bool:
        return self.median >= self.must

    def __str__(self) -> str:
        mark = "" if not self.must else " ✓" if self.reached else f" ✗ ({self.must:g})"
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f}){mark}"


def measure(row: Row, rounds: int, progress: Callable[[], Any] = lambda: None) -> dict[str, Any]:
    """Rates in median, and ratios of rates within each round.

    The sides take turns, and every other round in the opposite order, so that a machine which slows down slows all.
    """
    sides: dict[str, Work] = {"ours": row.ours}
    sides |= {name: work for name, work in (("reference", row.reference), ("limit", row.limit)) if work}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work()  # warm
    for turn in range(rounds):
        for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
            began = time.perf_counter()
            amount = sides[name]()
            rates[name].append(amount / (time.perf_counter() - began) if row.timed else amount)
            progress()
    result: dict[str, Any] = {"name": row.name, "unit": row.unit, "rates": rates}
    for other, must in (("reference", row.times_reference), ("limit", row.of_limit)):
        if other in sides:
            each = [a / b for a, b in zip(rates["ours"], rates[other], strict=True)]
            result[other] = Ratio(statistics.median(each), min(each), max(each), must)
    return result


def work(amount: float, function: Callable[[], Any], times: int = 1) -> Work:
    """`times` calls of `function`, which together do `amount`."""

    def done() -> float:
        for _ in range(times):
            function()
        return amount

    return done
