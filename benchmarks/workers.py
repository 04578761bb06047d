"""Two workers beside one, at the same tasks."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.dream import EPISODES as DREAMS
from benchmarks.dream import POPULATION, never_ending
from benchmarks.measure import Row, Work
from worldmodels import checkpoint, models
from worldmodels.actor import Actor
from worldmodels.envspec import EnvSpec
from worldmodels.evaluators import BaselineEvaluator, DreamEvaluator
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.workers import Workers

EPISODES = 64
STEPS = 120


def rows() -> Iterator[Row]:
    with Workers(1) as one, Workers(2) as two, tempfile.TemporaryDirectory() as folder:
        yield Row("workers, 2 beside 1", "episodes/s", plays(two), plays(one), None, 1.8)
        save(Path(folder))
        yield Row(
            "dreams on 2 workers beside 1", "steps/s", dreams(two, Path(folder)), dreams(one, Path(folder)), None, 1.8
        )


def plays(workers: Workers) -> Work:
    evaluator = BaselineEvaluator(workers, EnvSpec("doom"), "varied", 300)
    return lambda: len(evaluator.evaluate(list(range(EPISODES))).returns[0])


def dreams(workers: Workers, run: Path) -> Work:
    """As stage 4 dreams a generation of Doom's size."""
    model = models.load(run)
    actor = Actor(EnvSpec("doom"), run, model.default_inputs, 0, True, STEPS, "auto")
    evaluator = DreamEvaluator(model, actor, 1.0, workers=workers)
    params = np.random.default_rng(0).normal(0, 0.1, (POPULATION, actor.controller(model).num_params))
    return lambda: float(evaluator.evaluate(params, list(range(DREAMS))).lengths.sum())


def save(run: Path) -> None:
    """A V and an M for workers to open."""
    vision, memory = VAE(64), MDNRNN(64, 1, 512, restart_input=True, reward="alive")
    never_ending(memory)
    models.save_module(vision, run / "vision", "vision", env="doom", spec={}, clips=[])
    known = {"vision_fingerprint": checkpoint.fingerprint(vision.state_dict()), "starts": torch.randn(32, 128)}
    models.save_module(memory, run / "memory", "memory", **known)
