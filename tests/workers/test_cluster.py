"""Two nodes on this machine, and what happens when one of them dies."""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import World, descendants
from tests.core.test_plugins import modules_of
from tests.workers.test_local import die, errors_come_home, hang_once, square, threads
from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec, save_controller
from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.evolution.evaluators import DreamEvaluator, RealEvaluator
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.stages import CollectConfig, ControllerConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.train_controller import train_controller
from worldmodels.workers import make_workers
from worldmodels.workers.cluster import RayWorkers, _versions
from worldmodels.workers.local import Workers

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'worldmodels[ray]'")
SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
VIGILANT = {"health_check_period_ms": 1000, "health_check_timeout_ms": 3000, "health_check_failure_threshold": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=SMALL | {"_system_config": VIGILANT})
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def workers(cluster: Any) -> Iterator[Workers]:
    with make_workers(0, cluster.address) as pool:
        assert isinstance(pool, RayWorkers)
        yield pool
        for copies in pool._luggage:
            shutil.rmtree(copies, ignore_errors=True)


def node_of(task: int) -> str:
    time.sleep(0.5)
    return ray.get_runtime_context().get_node_id()


def read(path: Path) -> bytes:
    return path.read_bytes()


def stranded(node: str, mark: Path, function: Callable[[Any], Any], task: Any) -> Any:
    """On `node`, a task that never ends; elsewhere the task itself."""
    if ray.get_runtime_context().get_node_id() == node:
        mark.touch()
        time.sleep(1000)
    return function(task)


def joined(cluster: Any, workers: Workers) -> Any:
    """A second node, whose worker is as warm as the first one's."""
    node = cluster.add_node(**SMALL)
    while len(set(workers.map(node_of, range(4)))) < 2:
        pass
    return node


def once_there(mark: Path, act: Callable[[], Any]) -> threading.Thread:
    """Does `act` as soon as `mark` exists."""

    def wait() -> None:
        while not mark.exists():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def death(cluster: Any, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second node, which dies in the middle of its first task; the path exists from then on."""
    node, mark = joined(cluster, workers), tmp_path / "died"
    each = RayWorkers.each

    def mortal(self: RayWorkers, function: Callable[[Any], Any], tasks: list[Any]) -> Iterator[tuple[int, Any]]:
        return each(self, partial(stranded, node.node_id, mark, function), tasks)

    monkeypatch.setattr(RayWorkers, "each", mortal)

    thread = once_there(mark, partial(cluster.remove_node, node, allow_graceful=False))
    yield mark
    thread.join(timeout=10)


def test_it_is_told_in_one_line_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    for address in (nobody, "nonsense"):
        with pytest.raises(UserError, match=rf"--ray {address}: no cluster to join .*ray start") as error:
            collect(CollectConfig(env="doom", data=tmp_path, episodes=2, shard_size=2, ray=address))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=f"--ray {nobody}"):
        train_controller(ControllerConfig(env="doom", ray=nobody))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--ray auto needs Ray .*: pip install 'worldmodels\[ray\]'"):
        make_workers(2, "auto")


def test_where_it_computes_may_change_on_resume() -> None:
    for kind in (CollectConfig, ControllerConfig):
        assert kind(ray="auto").identity() == kind().identity()
    assert EvaluateConfig(run=Path("x")).ray == ""


def test_results_come_in_the_order_of_tasks(workers: Workers) -> None:
    ticks: list[int] = []
    assert workers.map(square, range(20), done=ticks.append) == [x * x for x in range(20)]
    assert sorted(ticks) == [x * x for x in range(20)] and workers.map(square, []) == []
    assert set(workers.map(threads, range(4))) == {(1, "1")}


def test_both_nodes_work_though_one_could_hold_the_queue(workers: Workers, cluster: Any) -> None:
    second = joined(cluster, workers)
    nodes = workers.map(node_of, range(12))
    cluster.remove_node(second)
    assert min(nodes.count(node) for node in set(nodes)) >= 4


def test_a_worker_that_hangs_does_not_stop_the_rest(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_deadline", 1.0)
    tasks = [(tmp_path / f"marker{i == 3}", i) for i in range(6)]
    (tmp_path / "markerFalse").touch()
    assert workers.map(hang_once, tasks) == list(range(6))


def test_a_task_that_always_kills_its_worker_is_given_up(workers: Workers) -> None:
    with pytest.raises(UserError, match="a worker died or hung 3 times at the same task"):
        workers.map(die, [0])
    assert workers.map(square, [3]) == [9]


def test_what_was_typed_goes_along_with_every_task(workers: Workers) -> None:
    plugins.use("colorsys")
    for typed, _ in workers.map(modules_of, range(2)):
        assert typed == ("colorsys",)


def test_errors_come_home(workers: Workers) -> None:
    errors_come_home(workers)


def test_a_node_with_other_versions_is_told_of(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _versions()
    monkeypatch.setattr("worldmodels.workers.cluster._versions", lambda: found | {"torch": "1.0"})
    with pytest.raises(UserError, match=rf"node [\d.]+ has torch {found['torch']}, but here it is torch 1.0"):
        workers.map(square, [0])


def test_a_node_may_have_an_extra_that_is_not_here(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = {name: version for name, version in _versions().items() if name != "mujoco"}
    monkeypatch.setattr("worldmodels.workers.cluster._versions", lambda: fewer)
    assert workers.map(square, [3]) == [9]


def test_files_are_found_by_tasks_on_nodes_that_do_not_share_the_disk(workers: Workers, tmp_path: Path) -> None:
    content = os.urandom(1000)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(content)
    there = workers.send(tmp_path, ["a/b"])
    (tmp_path / "a/b").unlink()
    assert workers.map(read, [there / "a/b"] * 2) == [content] * 2


def test_scores_are_those_of_local_workers_though_a_node_dies(workers: Workers, world: World, death: Path) -> None:
    params, seeds = np.random.default_rng(0).normal(0, 1, (4, 40)), [1, 2, 3]
    spec = ControllerSpec(EnvSpec("doom"), world.run, ("z", "c", "h"), 0, False, 220, "auto")
    local = RealEvaluator(Workers(0), spec, lockstep=1).evaluate(params, seeds)
    ours = RealEvaluator(workers, spec, lockstep=1).evaluate(params, seeds)
    assert death.exists()
    assert np.array_equal(local.returns, ours.returns) and np.array_equal(local.lengths, ours.lengths)
    assert len(np.unique(ours.returns)) > 4


@pytest.mark.slow
def test_a_machine_that_vanishes_without_a_word_costs_seconds(workers: Workers, cluster: Any, tmp_path: Path) -> None:
    """Its connections stay open, so that nobody is told; Ray itself would wait for minutes."""
    node, mark = joined(cluster, workers), tmp_path / "vanished"
    raylet = node.all_processes["raylet"][0].process.pid
    machine = [raylet, *descendants(raylet)]
    thread = once_there(mark, lambda: [os.kill(process, signal.SIGSTOP) for process in machine])
    began = time.monotonic()
    try:
        assert workers.map(partial(stranded, node.node_id, mark, square), range(8)) == [x * x for x in range(8)]
    finally:
        cluster.remove_node(node, allow_graceful=False)
        for process in machine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    thread.join(timeout=10)
    assert mark.exists() and time.monotonic() - began < 60  # by VIGILANT's checks; Ray's own take a minute


def test_dreams_are_those_dreamt_here(workers: Workers, world: World) -> None:
    model = models.load(world.run)
    spec = ControllerSpec(EnvSpec("doom"), world.run, ("z", "c", "h"), 0, False, 300, "auto")
    params, seeds = np.random.default_rng(0).normal(0, 1, (64, 40)), list(range(16))
    here = DreamEvaluator(model, spec, 1.15, True).evaluate(params, seeds)
    ours = DreamEvaluator(model, spec, 1.15, True, workers).evaluate(params, seeds)
    assert np.array_equal(here.returns, ours.returns) and np.array_equal(here.lengths, ours.lengths)
    assert len(np.unique(ours.returns)) > 4


@pytest.mark.slow
def test_shards_are_those_of_local_workers_though_a_node_dies(
    workers: Workers, world: World, death: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(world.run, tmp_path / "run"))
    spec = ControllerSpec(EnvSpec("doom"), run, ("z", "c", "h"), 0, False, 100, "auto")
    folder = run / "controller/any"
    about = {"generation": 1, "tau": None, "sample_end": False}
    save_controller(folder / "controller.safetensors", spec, np.random.default_rng(0).normal(0, 1, 40), about)
    config = CollectConfig(
        env="doom", policy=str(folder), data=tmp_path / "local", workers=0, episodes=12, shard_size=2, max_steps=100
    )
    collect(config)
    monkeypatch.setattr("worldmodels.stages.collect.make_workers", lambda *_, **__: contextlib.nullcontext(workers))
    collect(dataclasses.replace(config, data=tmp_path / "ray"))
    assert death.exists()
    shards = [
        {file.name: file.read_bytes() for file in (tmp_path / d / "rollouts").iterdir()} for d in ("local", "ray")
    ]
    assert len(shards[0]) == 6 and shards[0] == shards[1]
