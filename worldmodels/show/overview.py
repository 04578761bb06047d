"""One bar for all stages, with an estimate of what is left."""

import sys
import time
from types import TracebackType
from typing import Any, NamedTuple

from tqdm import tqdm

from worldmodels.core.report import lasting, say
from worldmodels.settings.run_all import Plan

PLAYED = ("collect", "controller", "evaluate")
"""Stages whose estimates count every episode as long as it may get. How much sooner they end, the first one tells."""
OFTEN = 0.2  # seconds between changes of the line,
SELDOM = 60.0  # and between lines in a log file
AROUND = 8.0  # seconds that a stage takes for starting up, plots and films, which no estimate counts


class Bar(NamedTuple):
    """Where the bar of a stage stands."""

    name: str
    done: float
    begun: float  # what was done before
    total: float  # 0 if unknown
    unit: str
    about: str
    since: float  # time.monotonic() when it was first heard of

    def left(self, now: float) -> float | None:
        """Seconds to its end, by its speed; None as long as that is unknown."""
        if not self.total or self.done <= self.begun:
            return None
        return (now - self.since) / (self.done - self.begun) * (self.total - self.done)


class Overview:
    """All stages on one line.

    Args:
        plan: what there is to do.
        expected: seconds that each stage is expected to take, None if unknown.
        finished: seconds that those took which were finished before, by their index.
    """

    def __init__(self, plan: Plan, expected: list[float | None], finished: dict[int, float]) -> None:
        self._stages = [part.stage for part in plan.parts]
        self._names = [part.name for part in plan.parts]
        self._bars = len(plan.config("controller").each())  # of stage 4
        self._expected = expected
        self._took = dict(finished)
        self._at = -1
        self._began = time.monotonic()
        self._start = self._began
        self._heard: list[Bar] = []  # the bars of the stage at work
        self._shown = 0.0
        self._drawn = sys.stderr.isatty()
        self._line: Any = None

    def __enter__(self) -> "Overview":
        form = "{percentage:3.0f}%|{bar:20}| {desc}"
        self._line = tqdm(total=100.0, bar_format=form, dynamic_ncols=True, leave=False, disable=not self._drawn)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._line.close()
        if kind is None:
            times = [f"{name} {lasting(self._took[i])}" for i, name in enumerate(self._names)]
            say(f"done: {', '.join(times)}")

    def begin(self, index: int) -> None:
        """A stage begins."""
        self._at = index
        self._began = time.monotonic()
        self._heard = []
        self.show(now=True)

    def end(self, index: int) -> None:
        """A stage is finished."""
        self._took[index] = time.monotonic() - self._began

    def hear(self, message: dict[str, Any]) -> None:
        """A bar of the stage moved."""
        if "bar" not in message:
            return
        known = [bar for bar in self._heard if bar.name == message["bar"]]
        since = known[0].since if known else time.monotonic()
        total = message["total"] or 0
        about = message["about"] or ""
        bar = Bar(message["bar"], message["done"], message["begun"], total, message["unit"], about, since)
        self._heard = [*(one for one in self._heard if one.name != bar.name), bar]

    def show(self, now: bool = False) -> None:
        """Draws the line, if it is time for that."""
        clock = time.monotonic()
        if self._at < 0 or (not now and clock - self._shown < (OFTEN if self._drawn else SELDOM)):
            return
        self._shown = clock
        left = self.left(clock)
        done = sum(self._took.values()) + clock - self._began
        percent = 100.0 * done / (done + left) if left is not None else 0.0
        said = " · ".join(self._facts(clock, left))
        if self._drawn:
            self._line.n = percent
            self._line.set_description_str(said)
        else:
            tqdm.write(f"{percent:3.0f} %: {said}", file=sys.stderr)

    def _facts(self, clock: float, left: float | None) -> list[str]:
        facts = [f"{self._at + 1}/{len(self._names)} {self._names[self._at]}"]
        if self._heard:
            bar = self._heard[-1]
            facts += [f"{bar.name} {bar.done:,.0f} of {bar.total:,.0f} {bar.unit}s"]
            facts += [bar.about] if bar.about else []
        facts += [f"{lasting(clock - self._start)} so far"]
        return [*facts, "what is left is not known yet" if left is None else f"about {lasting(left)} left"]

    def left(self, clock: float) -> float | None:
        """Seconds until all is done; None as long as that is unknown."""
        after = [self._foreseen(i) for i in range(self._at + 1, len(self._names))]
        current = self._of_current(clock)
        known = [one for one in (current, *after) if one is not None]
        return sum(known) if len(known) == 1 + len(after) else None

    def _of_current(self, clock: float) -> float | None:
        """What is left of the stage at work: by its bars, else by what was expected."""
        foreseen = self._foreseen(self._at)
        by_estimate = None if foreseen is None else max(0.0, foreseen - (clock - self._began))
        by_bar = self._heard[-1].left(clock) if self._heard else None
        if by_bar is None:
            return by_estimate
        if self._stages[self._at] == "controller":  # one bar for each temperature
            begun = sum(bar.name.startswith("evolve") for bar in self._heard)
            by_bar += max(0, self._bars - begun) * self._whole(clock)
        return by_bar

    def _whole(self, clock: float) -> float:
        """Seconds that the bar at work takes from its beginning to its end."""
        bar = self._heard[-1]
        return (clock - bar.since) + (bar.left(clock) or 0.0)

    def _foreseen(self, index: int) -> float | None:
        """What a stage is expected to take, by now."""
        expected = self._expected[index]
        if expected is None:
            return None
        return expected * (self._shortened() if index and self._stages[index] in PLAYED else 1.0) + AROUND

    def _shortened(self) -> float:
        """By how much episodes end sooner than they may: what stage 1 took, of what it was expected to."""
        expected = self._expected[0] or 0.0
        took = self._took.get(0)
        if took is None and self._at == 0 and self._heard:
            took = self._whole(time.monotonic()) if self._heard[-1].done > self._heard[-1].begun else None
        return min(1.0, took / expected) if took and expected else 1.0
