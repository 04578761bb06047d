"""Whether a larger run costs more than in proportion: rates at a large size beside rates at a small one; and whether
memory stays as it is: peaks at a small size beside peaks at a large one."""

import contextlib
import io
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.dream import doom_parts, dreams, paired
from benchmarks.measure import Row, Work
from worldmodels.data.embeddings import Embeddings
from worldmodels.data.rollouts import Rollouts
from worldmodels.models.vae import VAE
from worldmodels.settings.models import VAESettings
from worldmodels.settings.stages import CollectConfig
from worldmodels.stages.collect import collect

SHARD, FEW, MANY = 4, 16, 64  # episodes
FLAT = 0.9  # of the larger run's peak, the smaller's


def rows() -> Iterator[Row]:
    small, large = paired(*doom_parts(32)), paired(*doom_parts())
    populations = dreams(large, 1024, 4, 20), dreams(large, 64, 4, 20)
    yield Row("growth: population 64 to 1,024", "steps/s", *populations, times_reference=1.0)
    horizons = dreams(large, 64, 4, 320), dreams(large, 64, 4, 20)
    yield Row("growth: horizon 20 to 320", "steps/s", *horizons, times_reference=0.9)
    codes = dreams(large, 64, 4, 40), dreams(small, 64, 4, 40)
    yield Row("growth: code 32 to 64", "steps/s", *codes, times_reference=0.5)
    yield Row(
        "memory: population 256 to 4,096", "MB", peak(dream, 256), peak(dream, 4096), times_reference=FLAT, timed=False
    )
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        for data, episodes in ((few, FEW), (many, MANY)):
            collected(data, episodes)
        sides = (lambda: collected(many, MANY)), (lambda: collected(few, FEW))
        yield Row(f"growth: collecting {FEW} to {MANY} episodes", "frames/s", *sides, times_reference=0.9)
        peaks = peak(collected, Path(folder) / "a", FEW), peak(collected, Path(folder) / "b", MANY)
        yield Row("memory: collecting them", "MB", *peaks, times_reference=FLAT, timed=False)
        encoding = (lambda: encoded(many)), (lambda: encoded(few))
        yield Row(f"growth: encoding {FEW} to {MANY} episodes", "frames/s", *encoding, times_reference=0.9)
        yield Row(
            "memory: encoding them", "MB", peak(encoded, few), peak(encoded, many), times_reference=FLAT, timed=False
        )


def dream(population: int) -> float:
    return dreams(paired(*doom_parts()), population, 4, 20)()


def collected(data: Path, episodes: int) -> float:
    """Stage 1 in this process, anew; frames."""
    config = CollectConfig(
        env="doom", data=data, workers=0, episodes=episodes, shard_size=SHARD, max_steps=150, fresh=True
    )
    with silence():
        collect(config)
    rollouts = Rollouts(data / "rollouts", "doom")
    return rollouts.num_steps + rollouts.num_episodes


def encoded(data: Path) -> float:
    """All frames through V, to the disk; how many."""
    rollouts = Rollouts(data / "rollouts", "doom")
    vision = VAE(VAESettings(code_size=64))  # another each time: nothing is there yet
    with silence():
        Embeddings(data / "codes", rollouts, vision).write(vision, torch.device("cpu"), "auto")
    return rollouts.num_steps + rollouts.num_episodes


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No bars and tables of what is measured among our own."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def peak(function: Callable[..., float], *args: object) -> Work:
    """The most memory that a process which does this, and nothing else, takes; MB."""

    def measured() -> float:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(_peak, function, *args).result()

    return measured


def _peak(function: Callable[..., float], *args: object) -> float:
    torch.set_num_threads(1)
    with silence():
        function(*args)
    status = Path("/proc/self/status").read_text()  # getrusage's peak would be inherited from the parent
    return float(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
