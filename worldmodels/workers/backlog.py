"""What is left to do, and how often a task may lose its worker: one rule for all kinds of workers."""

from collections import Counter, deque

from worldmodels.core.errors import UserError

TRIES = 3
TIMES = {1: "once", 2: "twice"}


class Backlog:
    """The tasks that wait for a worker, by their index.

    One whose worker was lost is the next to be tried. When one has lost TRIES, none is handed out any more,
    and `check` raises; call it when the answers that had come are out.

    Args:
        count: of tasks.
        advice: what someone may do who is told that a task was given up.
    """

    def __init__(self, count: int, advice: str = "") -> None:
        self._waiting = deque(range(count))
        self._losses: list[Counter[str]] = [Counter() for _ in range(count)]
        self._advice = f"; {advice}" if advice else ""
        self._given_up = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> int | None:
        """The next task, which waits no more; None if there is none, or one was given up."""
        return self._waiting.popleft() if self._waiting and not self._given_up else None

    def lost(self, index: int, how: str, detail: str) -> None:
        """A task has lost its worker: it waits again, or is given up.

        Args:
            index: of the task.
            how: what the worker did, to follow "a worker" and be followed by how often.
            detail: of this time.
        """
        self._waiting.appendleft(index)
        losses = self._losses[index]
        losses[how] += 1
        if losses.total() >= TRIES:
            ways = [f"{way} {TIMES.get(times, f'{times} times')}" for way, times in losses.items()]
            self._given_up = f"a worker {' and '.join(ways)} at the same task ({detail}){self._advice}"

    def check(self) -> None:
        """Raises UserError if a task was given up."""
        if self._given_up:
            raise UserError(self._given_up)
