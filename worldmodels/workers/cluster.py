"""Workers on a Ray cluster, behind the calls of local ones.

Ray is an extra, imported only when --ray asks for it.

A task carries its seeds, so neither the node that runs it nor how often it is tried makes a difference.
What goes along is sent once: our own code to every node (by Ray's runtime environment), models by
`send`. No disk need be shared.
"""

import faulthandler
import functools
import hashlib
import logging
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import worldmodels
from worldmodels.core.checkpoint import versions
from worldmodels.core.errors import UserError
from worldmodels.core.files import write_bytes
from worldmodels.core.plugins import carried
from worldmodels.core.report import say
from worldmodels.workers.backlog import Backlog
from worldmodels.workers.local import ONE_THREAD, Answer, Workers, attempt

TO_ANSWER = 10.0  # seconds that the head of a cluster has to answer
LOOK = 5.0  # seconds between looks at which nodes there are
Luggage = tuple[tuple[str, ...], Any]
"""Names of files, and a reference to their contents in Ray's object store."""
LOST = "died or hung"  # a hang kills its own process, and which it was cannot be told


class Running(NamedTuple):
    """A task, by its index, that a node was given."""

    task: int
    node: str


@dataclass(frozen=True)
class Order:
    """A task as it goes to a node, with all that it needs there."""

    function: Callable[[Any], Any]
    task: Any
    luggage: dict[Path, Luggage]  # what has been sent, by where tasks look for it
    versions: dict[str, str]  # that the sender has
    deadline: float  # seconds


class RayWorkers(Workers):
    """As many workers as the cluster has CPUs; those of nodes that join later too.

    Args:
        address: of the cluster's head (host:port), or "auto" for the cluster that this machine is a node of.
        deadline: seconds after which a task counts as hung.

    Raises:
        UserError: if Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, deadline: float = 900.0) -> None:
        super().__init__(0, deadline)
        self._ray = _connect(address)
        remote = self._ray.remote(num_cpus=1, max_retries=0)  # retries are ours: they are counted
        self._serve = remote(_serve)
        self._luggage: dict[Path, Luggage] = {}

    @property
    def here(self) -> bool:
        return False

    def send(self, folder: Path, names: Iterable[str]) -> Path:
        """Where tasks will find the files `names` of `folder`: a copy on the node that runs them."""
        files = {name: (folder / name).read_bytes() for name in names}
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()[:16]
        there = Path("/tmp") / f"worldmodels-{digest}"  # the same path on every node
        if there not in self._luggage:
            self._luggage[there] = tuple(files), self._ray.put(files)
        return there

    def close(self) -> None:
        """Leaves the cluster; whatever still runs there ends."""
        self._ray.shutdown()

    def each(self, function: Callable[[Any], Any], tasks: list[Any]) -> Iterator[tuple[int, Any]]:
        """As `map`, but yields each result as it comes, with its task's index, and keeps none."""
        backlog = Backlog(len(tasks))
        running = dict[Any, Running]()  # reference to the answer -> who is to give it
        nodes = self._nodes()
        looked = time.monotonic()
        answers = deque[tuple[int, Answer]]()
        try:
            while backlog or running or answers:
                self._assign(nodes, running, backlog, function, tasks)
                while answers:  # when all CPUs are at work
                    index, answer = answers.popleft()
                    yield index, answer.open()
                backlog.check()
                if backlog and not running:  # until a node comes
                    time.sleep(LOOK)
                if time.monotonic() - looked >= LOOK or not nodes:
                    nodes = self._nodes()
                    looked = time.monotonic()
                    self._forsake(nodes, running, backlog)
                answers.extend(self._arrived(nodes, running, backlog))
        finally:
            for ref in running:  # nobody will read their answers
                self._ray.cancel(ref, force=True)

    def _assign(
        self,
        nodes: dict[str, int],
        running: dict[Any, Running],
        backlog: Backlog,
        function: Callable[[Any], Any],
        tasks: list[Any],
    ) -> None:
        """Gives a task to every CPU that is idle, on the emptiest node first."""
        free = Counter(nodes)
        free.subtract(run.node for run in running.values())
        while max(free.values(), default=0) > 0 and (index := backlog.take()) is not None:
            node = free.most_common(1)[0][0]
            free[node] -= 1
            running[self._start(function, tasks[index], node)] = Running(index, node)

    def _forsake(self, nodes: dict[str, int], running: dict[Any, Running], backlog: Backlog) -> None:
        """Nothing is expected any more of nodes that have left."""
        for ref in [ref for ref, run in running.items() if run.node not in nodes]:
            self._ray.cancel(ref, force=True)
            backlog.lost(running.pop(ref).task, LOST, "the last time: its node was lost")

    def _arrived(
        self, nodes: dict[str, int], running: dict[Any, Running], backlog: Backlog
    ) -> Iterator[tuple[int, Answer]]:
        """The answers that have come, after a while's waiting; a node whose worker died is passed over until
        the next look, for it may be what died, or what kills."""
        for ref in self._ray.wait(list(running), timeout=LOOK)[0] if running else []:
            run = running.pop(ref)
            found = self._answer(ref)
            if isinstance(found, Answer):
                yield run.task, found
            else:
                nodes.pop(run.node, None)
                backlog.lost(run.task, LOST, f"the last time: {found}")

    def _nodes(self) -> dict[str, int]:
        """The CPUs of every node that lives."""
        alive = (node for node in self._ray.nodes() if node["Alive"])
        return {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in alive}

    def _start(self, function: Callable[[Any], Any], task: Any, node: str) -> Any:
        """We choose the nodes. Ray notices within about a minute that a machine has vanished
        without a word; but for tasks that it had placed there itself it waits seven minutes, and
        meanwhile places no others."""
        function = carried(function)
        there = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=True)
        serve = self._serve.options(scheduling_strategy=there)
        return serve.remote(Order(function, task, self._luggage, _versions(), self._deadline))

    def _answer(self, ref: Any) -> "Answer | str":
        """A task's answer, or how its worker (or the worker's node) died."""
        known = self._ray.exceptions
        try:
            answer: Answer = self._ray.get(ref)
            return answer
        except (known.RayTaskError, known.RuntimeEnvSetupError) as error:  # not even `attempt` was reached
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"--ray: a node cannot take tasks ({reason}); docs/cluster.md says what it needs"
            ) from error
        except known.RayError as death:
            return str(death).strip().split(". ")[0]


def _connect(address: str) -> Any:
    """The module `ray`, connected."""
    try:
        import ray
        from ray._private.services import canonicalize_bootstrap_address_or_die
    except ModuleNotFoundError as error:
        raise UserError(f"--ray {address} needs Ray ({error}): pip install 'worldmodels[ray]'") from error
    if ray.is_initialized():
        raise UserError(
            f"--ray {address}: this process is connected to a Ray cluster already; ray.shutdown() first",
        )
    try:
        host, port = canonicalize_bootstrap_address_or_die(address).rsplit(":", 1)
        # asked here, because Ray itself would try for minutes
        socket.create_connection((host, int(port)), TO_ANSWER).close()
        environment = {"env_vars": ONE_THREAD, "py_modules": [worldmodels], "excludes": ["__pycache__"]}
        ray.init(f"{host}:{port}", runtime_env=environment, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        advice = "on this machine, run 'ray start --head', or 'ray start --address HEAD:6379' to join one"
        raise UserError(f"--ray {address}: no cluster to join ({reason}); {advice}") from error
    nodes = sum(node["Alive"] for node in ray.nodes())
    cpus = int(ray.cluster_resources().get("CPU", 0))
    say(f"Ray cluster at {host}:{port}: {nodes} nodes, {cpus} CPUs")
    return ray


def _serve(order: Order) -> Answer:
    """A task's life on a node."""
    import torch

    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(order.deadline, exit=True)  # a hang becomes a death
    try:
        return attempt(_carry_out, order)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _carry_out(order: Order) -> Any:
    import ray

    different = {name: theirs for name, theirs in _versions().items() if theirs != order.versions.get(name, theirs)}
    if different:
        node = ray.util.get_node_ip_address()
        found = ", ".join(f"{n} {v}" for n, v in different.items())
        needed = ", ".join(f"{name} {order.versions[name]}" for name in different)
        raise UserError(f"--ray: node {node} has {found}, but here it is {needed}; install the same")
    for folder, (names, files) in order.luggage.items():
        if not all((folder / name).exists() for name in names):
            contents: Any = ray.get(files)
            for name, content in contents.items():
                write_bytes(folder / name, content)
    return order.function(order.task)


@functools.cache
def _versions() -> dict[str, str]:
    """What results may depend on; builds of one version (torch's +cpu, +cu130) count as the same."""
    return {name: version.split("+")[0] for name, version in versions().items()}
