"""`python -m benchmarks.precision RUN --data DATA`: does bf16 measure what fp32 does? For a run of stages 2, 3 and 4.

Losses of V and M on held-out data; returns of one population in dreams, and of its mean in the real environment.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec, load_controller
from worldmodels.core.device import CPU
from worldmodels.core.errors import command
from worldmodels.core.report import say, summarise, table
from worldmodels.core.seeding import integer, rng
from worldmodels.data.embeddings import Embeddings
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.data.source import Source
from worldmodels.evolution.evaluators import DreamEvaluator, RealEvaluator
from worldmodels.settings.stages import MemoryConfig, VisionConfig
from worldmodels.training.train import mean_loss
from worldmodels.workers.local import Workers

POPULATION, EPISODES, SPREAD = 64, 16, 0.3
HEAD = ("", "fp32", "bf16", "")


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("run", type=Path, help="with one controller; or a controller's folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--real-episodes", type=int, default=100)
    options = parser.parse_args()
    spec, params, about = load_controller(options.run)
    say(table(f"held-out losses of {spec.run}", HEAD, losses(spec.run, options.data)))
    say(table(f"returns of {options.run}", HEAD, returns(spec, params, about, options.real_episodes)))


def losses(run: Path, data: Path) -> Iterator[tuple[object, ...]]:
    vision, about = models.load_module(run / "vision", "vision")
    rollouts = Rollouts(rollout_folder(data), about["env"])
    embeddings = Embeddings(data / "codes", rollouts, vision)
    frames = Source("vision", 0, rollouts, rows=0, buffer=0, checked=512)
    yield from both("V", vision, vision.wants.held_out(frames), VisionConfig())
    memory, _ = models.load_module(run / "memory", "memory")
    steps = Source("memory", 0, rollouts, rows=0, buffer=0, checked=4096, embeddings=embeddings)
    yield from both("M", memory, memory.wants.held_out(steps), MemoryConfig())


def both(name: str, module: Any, batches: Any, config: Any) -> Iterator[tuple[object, ...]]:
    high, low = (mean_loss(module, batches(), replace(config, precision=p), CPU) for p in ("fp32", "bf16"))
    for key, value in high.items():
        change = f"{(low[key] - value) / max(abs(value), 1e-12):+.2%}"
        yield f"{name}: {key}", f"{value:.5g}", f"{low[key]:.5g}", change


def returns(
    spec: ControllerSpec, params: np.ndarray, about: dict[str, Any], real_episodes: int
) -> Iterator[tuple[object, ...]]:
    tau = about["tau"] or 1.0
    near = rng(0, "precision").normal(0, SPREAD * params.std(), (POPULATION, len(params)))
    population = params + near
    luck = [[integer(0, name, i) for i in range(EPISODES)] for name in ("luck", "other luck")]
    dreamt = {}
    for precision in ("fp32", "bf16"):
        evaluator = DreamEvaluator(models.load(spec.run, precision=precision), spec, tau, about["sample_end"])
        dreamt[precision] = [evaluator.evaluate(population, seeds).returns.mean(1) for seeds in luck]
    high, low = dreamt["fp32"][0], dreamt["bf16"][0]
    yield "dream, mean of the population", summarise(high), summarise(low), f"{low.mean() / high.mean() - 1:+.2%}"
    yield "the same with other luck", summarise(dreamt["fp32"][1]), summarise(dreamt["bf16"][1]), ""
    yield "rank correlation of fp32 and bf16, same luck", "", "", f"{ranks(high, low):.3f}"
    yield "of fp32 and fp32, other luck", "", "", f"{ranks(high, dreamt['fp32'][1]):.3f}"
    seeds = [integer(0, "real", i) for i in range(real_episodes)]
    with Workers(2) as workers:
        real = [
            summarise(RealEvaluator(workers, replace(spec, precision=p)).evaluate(params[None], seeds).returns)
            for p in ("fp32", "bf16")
        ]
    yield f"real, n {real_episodes}", *real, f"95 % ± {real[0].ci:.1f}, ± {real[1].ci:.1f}"


def ranks(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


if __name__ == "__main__":
    main()
