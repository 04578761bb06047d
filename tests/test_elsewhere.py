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
from tests.dreams.test_capture import by_hand
from tests.training.test_train import metrics, stop_at
from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core.device import resolved
from worldmodels.dreams import play
from worldmodels.dreams.capture import Captured
from worldmodels.dreams.dream import Dream
from worldmodels.evolution.evaluators import DreamEvaluator, Scores
from worldmodels.settings.envspec import EnvSpec
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

CROSSINGS = {"vae": (2, 2), "hrssm": (3, 2), "mdnrnn": (2, 3), "rssm": (4, 2)}
"""How often a training step sends (which rows, noise; of this RSSM also what is hidden) and reads (loss, norm of the
gradient, where episodes begin)."""
PARAMS, SEEDS = np.random.default_rng(0).normal(0, 1, (6, 5000)), [10, 11, 12]


def dreams(run: Path, device: torch.device, precision: str) -> tuple[Scores, np.ndarray]:
    """Scores of candidates, and what is remembered after twenty steps."""
    model = models.load(run, device, precision=precision)
    spec = ControllerSpec(EnvSpec("doom"), run, model.default_inputs, 0, True, 40, precision)
    params = PARAMS[:, : spec.controller(model).num_params]
    by_chance = model.memory.family == "rssm"  # which after so few steps would decide to end at once, or never
    before = elsewhere.crossed.copy()
    scores = DreamEvaluator(model, spec, 1.15, by_chance).evaluate(params, SEEDS)
    assert (elsewhere.crossed - before).total() < 20, elsewhere.crossed - before  # in forty steps
    dream = Dream(model, 1.15)
    dream.begin(SEEDS)
    for t in range(20):
        dream.step(torch.full((len(SEEDS), 1), math.sin(t)).to(device))
    return scores, dream.features(spec.inputs).cpu().numpy()


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


def there(world: World, run: Path, precision: str) -> tuple[Scores, np.ndarray]:
    """V and M trained there, in `run`, a controller evolved, and dreams of this world's own V and M."""
    device = elsewhere.register()
    torch.set_num_threads(1)
    for module in [module for name, module in sys.modules.items() if name.startswith("worldmodels.")]:
        if hasattr(module, "prepare_device"):
            module.prepare_device = lambda name: device  # type: ignore[attr-defined]
    play.Captured, play.RECORDED = partial(Captured, record=silent), device.type  # type: ignore[misc,assignment]
    own = {"run": run, "precision": precision}
    with elsewhere.Elsewhere(), pytest.MonkeyPatch.context() as patch:
        crossed = crossings_by_step(patch)
        trained(train_vision, dataclasses.replace(world.vision, **own))
        trained(train_memory, dataclasses.replace(world.memory, **own))
        for model, steps in ((world.vision.vision, crossed[1:8:2]), (world.memory.memory, crossed[9::2])):
            least = min(steps, key=Counter.total)  # some change shards, and send five arrays more
            assert (least["sent"], least["read"]) == CROSSINGS[model], steps
            assert least["sent"] + 5 >= max(step["sent"] for step in steps), steps
        if precision == "fp32" and world.memory.memory == "mdnrnn":
            train_controller(world.controller(run=run))
        return dreams(world.run, device, precision)


@pytest.fixture(params=[("vae", "mdnrnn"), ("hrssm", "rssm")], ids="-".join)
def pair(request: pytest.FixtureRequest, pairs: dict[tuple[str, str], World]) -> World:
    return pairs[request.param]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which all other tests train on")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_what_is_done_elsewhere_is_what_is_done_here(pair: World, tmp_path: Path, precision: str) -> None:
    with get_context("spawn").Pool(1) as process:
        scores, features = process.apply(there, (pair, tmp_path, precision))
    exact = precision == resolved(pair.vision.precision, torch.device("cpu")) == "fp32"
    for stage in ("vision", "memory"):
        found, here = metrics(tmp_path / stage), metrics(pair.run / stage)
        for line, expected in zip(found, here, strict=True):
            names = expected if exact else ("loss", "held_out_loss")
            rounding = 1e-3 if exact else 1e-2
            assert {n: line[n] for n in names} == pytest.approx({n: expected[n] for n in names}, rel=rounding)
        if precision == "bf16":  # else nothing was cast
            assert any(abs(a["loss"] / b["loss"] - 1) > 1e-6 for a, b in zip(found, here, strict=True))
    scores_here, features_here = dreams(pair.run, torch.device("cpu"), precision)
    assert len(np.unique(scores_here.lengths)) >= 3 and features_here.std() > 0.01
    alike = np.isclose(scores.returns, scores_here.returns) & (scores.lengths == scores_here.lengths)
    assert alike.mean() >= (1 if precision == "fp32" else 0.8)
    assert np.abs(features - features_here).mean() < (1e-5 if precision == "fp32" else 0.02)
