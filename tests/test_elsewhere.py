"""What is to run on a GPU, on the device of elsewhere.py: trained, resumed and dreamt there as here."""

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import elsewhere
from tests.conftest import World
from tests.test_capture import by_hand
from tests.test_train import metrics, stop_at
from worldmodels import evaluators, models
from worldmodels.actor import Actor
from worldmodels.capture import Captured
from worldmodels.envs.dream import Dream
from worldmodels.envspec import EnvSpec
from worldmodels.evaluators import DreamEvaluator
from worldmodels.evolve import train_controller
from worldmodels.memory import train_memory
from worldmodels.vision import train_vision

PARAMS, SEEDS = np.random.default_rng(0).normal(0, 1, (6, 5000)), [10, 11, 12]


def dreams(run: Path, device: torch.device, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """How long candidates dream, and what is remembered after twenty steps."""
    model = models.load(run, device, precision=precision)
    actor = Actor(EnvSpec("doom"), run, model.default_inputs, 0, True, 40, precision)
    params = PARAMS[:, : actor.controller(model).num_params]
    by_chance = model.memory.family == "rssm"  # what a few steps have taught decides on ends at once, or never
    lengths = DreamEvaluator(model, actor, 1.15, by_chance).evaluate(params, SEEDS).lengths
    dream = Dream(model, 1.15)
    dream.begin(SEEDS)
    for t in range(20):
        dream.step(torch.full((len(SEEDS), 1), math.sin(t)).to(device))
    return lengths, dream.features(actor.inputs).cpu().numpy()


def trained(train: Callable[[Any], None], config: Any) -> None:
    """Stopped in the middle, and gone on with."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(4, patch)
        train(config)
    train(config)


def silent(compute: Callable[[], Any], device: torch.device) -> Any:
    """A stand-in for a CUDA graph, which must ask the host for nothing."""
    before = elsewhere.crossed.total()
    recorded = by_hand(compute, device)
    assert elsewhere.crossed.total() == before, elsewhere.crossed
    return recorded


def crossings_by_step(patch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """Filled by every training step with what crossed since the one before."""
    found: list[Counter[str]] = []
    step = torch.optim.Adam.step

    def counting(self: torch.optim.Adam, *arguments: Any) -> Any:
        found.append(elsewhere.crossed.copy())
        elsewhere.crossed.clear()
        return step(self, *arguments)

    patch.setattr(torch.optim.Adam, "step", counting)
    return found


def there(world: World, run: Path, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """V and M trained there, in `run`, a controller evolved, and dreams of this world's own V and M."""
    device = elsewhere.register()
    torch.set_num_threads(1)
    for module in [module for name, module in sys.modules.items() if name.startswith("worldmodels.")]:
        if hasattr(module, "device_of"):
            module.device_of = lambda name: device  # type: ignore[attr-defined]
    evaluators.Captured = partial(Captured, record=silent)  # type: ignore[misc,assignment]
    own = {"run": run, "precision": precision}
    with elsewhere.Elsewhere(), pytest.MonkeyPatch.context() as patch:
        crossed = crossings_by_step(patch)
        trained(train_vision, dataclasses.replace(world.vision, **own))
        trained(train_memory, dataclasses.replace(world.memory, **own))
        between = [step.total() for step in crossed[1::2]]  # between two steps that nothing was logged or saved after
        assert len(between) == 8 and min(between[:4]) >= 4 and min(between[4:]) <= 5, between
        assert max(between) <= 10, between  # two numbers read, three arrays sent; five more where shards are changed
        if precision == "fp32" and world.memory.memory == "mdnrnn":
            train_controller(world.controller(run=run))
        return dreams(world.run, device, precision)


@pytest.fixture(params=[("vae", "mdnrnn"), ("hrssm", "rssm")], ids="-".join)
def pair(request: pytest.FixtureRequest, pairs: dict[tuple[str, str], World]) -> World:
    return pairs[request.param]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_what_is_done_elsewhere_is_what_is_done_here(pair: World, tmp_path: Path, precision: str) -> None:
    with get_context("spawn").Pool(1) as process:
        lengths, features = process.apply(there, (pair, tmp_path, precision))
    for stage in ("vision", "memory"):
        lines = zip(metrics(tmp_path / stage), metrics(pair.run / stage), strict=True)  # what was done here is in fp32
        for line, expected in lines:
            names = expected if precision == "fp32" else ("loss", "held_out_loss")
            rounding = 1e-3 if precision == "fp32" else 1e-2
            assert {n: line[n] for n in names} == pytest.approx({n: expected[n] for n in names}, rel=rounding)
    lengths_here, features_here = dreams(pair.run, torch.device("cpu"), precision)
    assert len(np.unique(lengths_here)) >= 3 and features_here.std() > 0.01
    assert (lengths == lengths_here).mean() >= (1 if precision == "fp32" else 0.8)
    assert np.abs(features - features_here).mean() < (1e-5 if precision == "fp32" else 0.02)
