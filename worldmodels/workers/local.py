"""Processes that may die or hang without taking the run along.

Each worker has a pipe of its own. A death is an end-of-file on it: the worker is replaced and its task tried
again. A hang meets a deadline, from when it has its task, and becomes a death. An exception comes home with its
text. Tasks carry their own seeds, so which worker runs what makes no difference to the results.
"""

import atexit
import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import multiprocess as mp
from multiprocess.connection import Connection, wait

from worldmodels.core.errors import IN_A_WORKER, UserError
from worldmodels.core.plugins import carried
from worldmodels.workers.backlog import Backlog

TO_TIDY_UP = 5.0  # seconds that an idle worker has to tidy up
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
SAFE_PATH = {"PYTHONSAFEPATH": "1"}  # no module of the folder where one works is taken for one of Python's


class WorkerError(RuntimeError):
    """A task raised; the message holds the worker's traceback."""


class Workers:
    """`num` spawned processes, started when first needed; with 0, tasks run in this process.

    Args:
        num: processes.
        deadline: seconds after which a task counts as hung.
    """

    def __init__(self, num: int, deadline: float = 900.0) -> None:
        self._num = num
        self._deadline = deadline
        self._workers: list[_Worker] = []

    @property
    def here(self) -> bool:
        """Whether tasks run in this process."""
        return self._num == 0

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Iterable[Any],
        done: Callable[[Any], Any] | None = None,
    ) -> list[Any]:
        """`[function(task) for task in tasks]`, in parallel; `function` must be importable by name.

        Args:
            done: called with each result as it comes, for progress bars.

        Raises:
            UserError: as the task raised it, or if a task killed (or hung) as many workers as it may
                (backlog.TRIES).
            WorkerError: if a task raised anything else.
        """
        tasks = list(tasks)
        results: list[Any] = [None] * len(tasks)
        for index, result in self.each(function, tasks):
            results[index] = result
            if done:
                done(result)
        return results

    def send(self, folder: Path, names: Iterable[str]) -> Path:
        """The folder where tasks find the files `names` of `folder`: there, for workers here share its disk."""
        return folder

    def close(self) -> None:
        """Ends all processes; those that are idle may tidy up first."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.end()
        self._workers = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def each(self, function: Callable[[Any], Any], tasks: list[Any]) -> Iterator[tuple[int, Any]]:
        """As `map`, but yields each result as it comes, with its task's index, and keeps none."""
        if self.here:
            yield from ((index, function(task)) for index, task in enumerate(tasks))
            return
        backlog = Backlog(len(tasks), "try fewer --workers")
        while len(self._workers) < min(self._num, len(tasks)):
            self._workers.append(_Worker())
        busy: dict[Connection, _Worker] = {}
        answers: list[tuple[int, Answer]] = []
        try:
            while backlog or busy or answers:
                self._employ(busy, backlog, function, tasks)
                while answers:  # workers are at their next task while the caller sees to these
                    index, answer = answers.pop(0)
                    yield index, answer.open()
                backlog.check()
                answers.extend(self._hear(busy, backlog))
        finally:
            for worker in busy.values():  # left in the middle of a task: nobody will read its answer
                worker.kill()
                self._workers.remove(worker)

    def _employ(
        self,
        busy: "dict[Connection, _Worker]",
        backlog: Backlog,
        function: Callable[[Any], Any],
        tasks: list[Any],
    ) -> None:
        """Gives a task to every worker that is idle."""
        for worker in self._workers:
            if worker.connection not in busy and (index := backlog.take()) is not None:
                worker.start(index, function, tasks, self._deadline)
                busy[worker.connection] = worker

    def _hear(self, busy: "dict[Connection, _Worker]", backlog: Backlog) -> "list[tuple[int, Answer]]":
        """Waits until some are no longer busy: the answers of those that have done their task; the
        dead and hung are replaced."""
        if not busy:
            return []
        answers = []
        patience = min(worker.due for worker in busy.values()) - time.monotonic()
        for connection in wait(list(busy), timeout=max(0.0, patience)):
            worker = busy.pop(connection)
            found = worker.answer()
            if found is None:
                self._replace(worker, backlog, "died")
            else:
                answers.append((worker.task, found))
        for worker in [w for w in busy.values() if w.due < time.monotonic()]:
            del busy[worker.connection]
            self._replace(worker, backlog, f"took longer than {self._deadline:.0f} s")
        return answers

    def _replace(self, worker: "_Worker", backlog: Backlog, how: str) -> None:
        """Another worker in its place; its task waits again."""
        code = worker.kill()
        self._workers[self._workers.index(worker)] = _Worker()
        backlog.lost(worker.task, how, f"exit code {code}")


class Answer:
    """What a worker sends back: a result, or what went wrong."""

    def __init__(self, result: Any = None, mistake: str = "", trace: str = "") -> None:
        self.result = result
        self.mistake = mistake
        self.trace = trace

    def open(self) -> Any:
        if self.mistake:
            raise UserError(self.mistake)
        if self.trace:
            raise WorkerError(f"{IN_A_WORKER}\n{self.trace}")
        return self.result


def attempt(function: Callable[[Any], Any], task: Any) -> Answer:
    """What comes of `function(task)`, in a worker."""
    try:
        return Answer(function(task))
    except UserError as error:
        return Answer(mistake=str(error))
    except Exception:
        return Answer(trace=traceback.format_exc())


class _Worker:
    def __init__(self) -> None:
        context = mp.get_context("spawn")  # fork breaks torch, EGL and pygame
        self.connection, theirs = context.Pipe()
        self.task = -1
        self.due = float("inf")
        with environment(ONE_THREAD | SAFE_PATH), _sheltered():
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
        theirs.close()

    def start(self, index: int, function: Callable[[Any], Any], tasks: list[Any], deadline: float) -> None:
        self.task = index
        self.due = time.monotonic() + deadline
        with contextlib.suppress(ConnectionError):  # it died while idle, or now: `answer` will meet the end of file
            self.connection.send((carried(function), tasks[index]))

    def answer(self) -> Answer | None:
        """Its task's answer, or None if the process is dead."""
        try:
            answer: Answer = self.connection.recv()
        except (EOFError, OSError):  # dead before or in the middle of its answer
            return None
        return answer

    def end(self) -> None:
        self._process.join(timeout=TO_TIDY_UP)
        self.kill()

    def kill(self) -> int | None:
        self._process.kill()
        self._process.join()
        self.connection.close()
        code: int | None = self._process.exitcode
        return code


def _serve(connection: Connection) -> None:
    """A worker's life: tasks in, answers out, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            function, task = connection.recv()
        except (EOFError, OSError):  # in the middle of a task, if the parent was killed while it sent one
            atexit._run_exitfuncs()  # multiprocess leaves by os._exit, and environments are to tidy up
            return
        try:
            connection.send(attempt(function, task))
        except OSError:  # the parent was killed
            return


@contextlib.contextmanager
def _sheltered() -> Iterator[None]:
    """Ctrl-C waits while the block runs, and in processes that it starts until they let it come."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """These variables are set while the block runs, for processes that it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
