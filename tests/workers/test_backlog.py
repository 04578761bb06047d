import pytest

from worldmodels.core.errors import UserError
from worldmodels.workers.backlog import Backlog


def test_a_task_that_lost_its_worker_is_the_next_to_be_tried() -> None:
    backlog = Backlog(3)
    assert backlog.take() == 0 and backlog.take() == 1
    backlog.lost(0, "died", "exit code 1")
    backlog.check()
    assert [backlog.take() for _ in range(3)] == [0, 2, None] and not backlog


def test_what_is_given_up_is_told_by_what_died_and_how_often() -> None:
    backlog = Backlog(2, "try fewer --workers")
    for how, detail in (("died", "exit code 1"), ("took longer than 8 s", "exit code -9"), ("died", "exit code 3")):
        assert backlog.take() == 0
        backlog.lost(0, how, detail)
    assert backlog and backlog.take() is None  # nothing more is begun; who waits for answers sees that it is not done
    with pytest.raises(UserError) as told:
        backlog.check()
    expected = "a worker died twice and took longer than 8 s once at the same task (exit code 3); try fewer --workers"
    assert str(told.value) == expected


def test_other_tasks_losses_do_not_count() -> None:
    backlog = Backlog(4)
    for _ in range(4):
        index = backlog.take()
        assert index is not None
        backlog.lost(index, "died", "")
        assert backlog.take() == index
    backlog.check()
