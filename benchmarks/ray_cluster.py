"""A generation's real episodes on a Ray cluster of two nodes with one CPU each, beside two local workers."""

from collections.abc import Iterator

from ray.cluster_utils import Cluster

from benchmarks.measure import Row
from worldmodels.evolution.evaluators import BaselineEvaluator
from worldmodels.settings.envspec import EnvSpec
from worldmodels.workers import make_workers
from worldmodels.workers.local import Workers

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
EPISODES = 96  # twelve tasks of eight: about five seconds


def rows() -> Iterator[Row]:
    # Ray's workers yield to everything else on their machine (nice 15); here to whatever runs beside the measurement
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": {"worker_niceness": 0}})
    cluster.add_node(**NODE)
    with make_workers(0, cluster.address) as ours, make_workers(2) as local:
        yield Row("Ray, 2 nodes", "steps/s", lambda: play(ours), lambda: play(local), None, 0.85)
    cluster.shutdown()


def play(workers: Workers) -> float:
    doom = BaselineEvaluator(workers, EnvSpec("doom"), "held", max_steps=300)
    return float(doom.evaluate(list(range(EPISODES))).lengths.sum())
