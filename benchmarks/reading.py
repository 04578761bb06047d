"""Reading batches from disk, beside the training that eats them: reading must never be what training waits for."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import benchmarks.hrssm
import benchmarks.memory
import benchmarks.vision
from benchmarks.measure import Row, Work
from worldmodels.data.chunks import chunk_batches, read_obs
from worldmodels.data.embeddings import Embeddings
from worldmodels.data.frames import frame_batches
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.data.sequences import sequence_batches
from worldmodels.models.vae import VAE
from worldmodels.settings.models import VAESettings
from worldmodels.settings.stages import CollectConfig
from worldmodels.stages.collect import collect

EPISODES = 64


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        collect(CollectConfig(env="doom", data=data, workers=0, episodes=EPISODES, shard_size=16, policy="varied"))
        rollouts = Rollouts(rollout_folder(data), "doom")
        frames = frame_batches(rollouts, 32, 40_000, order)
        windows = chunk_batches(rollouts, "obs", read_obs, 32, 16, 40_000, order)
        epoch = take(frames, lambda batch: len(batch["obs"]), rollouts.num_steps // 32)
        yield Row("reading for V", "frames/s", epoch, next(benchmarks.vision.rows()).ours, None, 5.0)
        epoch = take(windows, windows_in, rollouts.num_steps // (32 * 16))
        yield Row("reading for HRSSM", "updates/s", epoch, next(benchmarks.hrssm.rows()).ours, None, 5.0)
        vision = VAE(VAESettings(code_size=64))
        embeddings = Embeddings(data / "codes", rollouts, vision)
        embeddings.write(vision, torch.device("cpu"), "auto")
        sequences = sequence_batches(embeddings, 100, 128, 2_000_000, order)
        epoch = take(sequences, steps_in, rollouts.num_steps // (100 * 128))
        yield Row("reading for M", "steps/s", epoch, next(benchmarks.memory.rows()).ours, None, 5.0)


def take(batches: Iterator[Any], size: Callable[[Any], float], count: int) -> Work:
    """The batches of about an epoch, in which every shard is read and unpacked once."""
    return lambda: sum(size(next(batches)) for _ in range(max(1, count)))


def order(epoch: int) -> np.random.Generator:
    return np.random.default_rng(epoch)


def windows_in(batch: dict[str, torch.Tensor]) -> float:
    """In updates of 32 windows."""
    return len(batch["is_first"]) / 32


def steps_in(batch: dict[str, torch.Tensor]) -> float:
    return batch["reward"].numel()
