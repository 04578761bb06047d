import os
import time
from pathlib import Path

import pytest
import torch

from worldmodels.core.errors import UserError
from worldmodels.workers.local import WorkerError, Workers


def square(x: int) -> int:
    return x * x


def die_once(task: tuple[Path, int]) -> int:
    marker, value = task
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), 9)
    return value


def leave_mark(task: tuple[Path, int]) -> int:
    task[0].touch()
    return task[1]


def hang_once(task: tuple[Path, int]) -> int:
    marker, value = task
    if not marker.exists():
        marker.touch()
        time.sleep(1000)
    return value


def die(task: int) -> None:
    os._exit(3)


def mistake(task: int) -> None:
    raise UserError("--flag is wrong")


def bug(task: int) -> None:
    raise ZeroDivisionError("deep inside")


def threads(task: int) -> tuple[int, str]:
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


@pytest.fixture(scope="module")
def workers():
    with Workers(2, deadline=8.0) as pool:
        yield pool


def test_a_worker_is_at_its_next_task_while_the_caller_sees_to_the_last(tmp_path: Path) -> None:
    tasks = [(tmp_path / str(i), i) for i in range(3)]
    with Workers(1) as pool:
        for index, _ in pool.each(leave_mark, tasks):
            end = time.monotonic() + 20
            while index < 2 and not tasks[index + 1][0].exists():
                assert time.monotonic() < end, "the worker waits for the caller"
                time.sleep(0.01)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_results_come_in_the_order_of_tasks(num: int) -> None:
    ticks: list[int] = []
    with Workers(num) as pool:
        assert pool.map(square, range(20), done=ticks.append) == [x * x for x in range(20)]
        assert pool.map(square, []) == []
    assert sorted(ticks) == [x * x for x in range(20)]


@pytest.mark.parametrize("function", [die_once, hang_once])
def test_a_worker_that_dies_or_hangs_does_not_stop_the_rest(workers: Workers, tmp_path: Path, function) -> None:
    tasks = [(tmp_path / f"marker{i == 3}", i) for i in range(8)]
    (tmp_path / "markerFalse").touch()
    assert workers.map(function, tasks) == list(range(8))
    assert workers.map(square, range(5)) == [0, 1, 4, 9, 16]


def test_a_task_that_always_kills_its_worker_is_given_up(workers: Workers) -> None:
    with pytest.raises(UserError, match=r"a worker died 3 times at the same task \(exit code 3\)"):
        workers.map(die, range(2))
    assert workers.map(square, [3]) == [9]


def errors_come_home(workers: Workers) -> None:
    with pytest.raises(UserError, match="--flag is wrong"):
        workers.map(mistake, range(3))
    with pytest.raises(WorkerError, match=r"(?s)in bug.*ZeroDivisionError: deep inside"):
        workers.map(bug, range(3))
    assert workers.map(square, [4]) == [16]


def test_errors_come_home(workers: Workers) -> None:
    errors_come_home(workers)


def test_each_worker_has_one_thread_and_the_parent_keeps_its_environment(workers: Workers) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    assert set(workers.map(threads, range(4))) == {(1, "1")}
    assert os.environ.get("OMP_NUM_THREADS") == before
