"""Dreams of 64 candidates on 16 episodes each, beside one episode at a time, and beside the matrix products alone."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Row, Work, work
from benchmarks.products import chain
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core.checkpoint import fingerprint
from worldmodels.evolution.evaluators import DreamEvaluator
from worldmodels.models import load, pair, save_module
from worldmodels.models.base import WorldModel
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.recurrent import RSSMMemory
from worldmodels.models.vae import VAE
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import MDNRNNSettings, RSSMSettings, VAESettings
from worldmodels.workers.local import Workers

POPULATION, EPISODES, STEPS = 64, 16, 60


def rows() -> Iterator[Row]:
    batch = POPULATION * EPISODES
    for name, parts, shapes, of_limit in (
        ("dream, Doom's size", doom_parts, DOOM_PRODUCTS, 0.6),
        ("dream, RSSM of laptop size", rssm_parts, RSSM_PRODUCTS, 0.5),
    ):
        with tempfile.TemporaryDirectory() as folder, Workers(1) as worker:
            ours = dreams_of(save(Path(folder), *parts()), worker)
            plain = one_at_a_time(paired(*parts(), precision="fp32"))
            limit = work(batch * STEPS, chain(*((batch, k, m) for k, m in shapes), times=STEPS))
            yield Row(name, "steps/s", ours, plain, limit, 10.0, of_limit)


def dreams_of(run: Path, workers: Workers, steps: int = STEPS) -> Work:
    """As stage 4 dreams a generation."""
    model = load(run)
    spec = ControllerSpec(EnvSpec("doom"), run, model.default_inputs, 0, True, steps, "auto")
    return of_a_population(DreamEvaluator(model, spec, 1.0, workers=workers), spec.controller(model).num_params)


def dreams(model: WorldModel, population: int, episodes: int, steps: int) -> Work:
    """The same in this process."""
    spec = ControllerSpec(EnvSpec("doom"), Path(), model.default_inputs, 0, True, steps, "auto")
    return of_a_population(DreamEvaluator(model, spec, 1.0), spec.controller(model).num_params, population, episodes)


def of_a_population(
    evaluator: DreamEvaluator, numbers: int, population: int = POPULATION, episodes: int = EPISODES
) -> Work:
    params = np.random.default_rng(0).normal(0, 0.1, (population, numbers))
    return lambda: float(evaluator.evaluate(params, list(range(episodes))).lengths.sum())


def one_at_a_time(model: WorldModel) -> Work:
    """The obvious code: an episode, a step, a row; fp32."""
    width = sum(model.feat_sizes[part] for part in model.default_inputs)
    weight = torch.randn(model.action_size, width)

    @torch.no_grad()
    def play() -> float:
        for episode in range(3):
            generator = torch.Generator().manual_seed(episode)
            nothing, one = torch.zeros(1, model.action_size), torch.ones(1, 1)
            first = torch.rand(1, model.noise_size, generator=generator)
            state = model.observe(model.initial(1), nothing, model.starts[:1], one, first)
            for _ in range(STEPS):
                action = torch.tanh(model.features(state, model.default_inputs) @ weight.T)
                state, _, _, ended = model.imagine(state, action, torch.rand(1, model.noise_size, generator=generator))
                assert not ended
        return 3 * STEPS

    return play


def never_ending(memory: MDNRNN | RSSMMemory) -> Any:
    """Without an episode that ends early, so that all sides do the same work."""
    with torch.no_grad():
        if isinstance(memory, MDNRNN):
            memory.head.bias[3 * memory.settings.mixtures * memory.code_size] = -100.0
        else:
            memory.end_head[-1].bias.fill_(-100.0)  # type: ignore[operator,union-attr]
    return memory


def doom_parts(code_size: int = 64) -> tuple[VAE, MDNRNN]:
    settings = MDNRNNSettings(hidden_size=512, restart_input=True, reward="alive")
    return VAE(VAESettings(code_size=code_size)), never_ending(MDNRNN(settings, code_size, 1))


def rssm_parts() -> tuple[VAE, RSSMMemory]:
    settings = RSSMSettings(hidden_size=128, groups=8, classes=8, units=128)
    return VAE(VAESettings(code_size=64)), never_ending(RSSMMemory(settings, 128, 64, 6))


def paired(vision: VAE, memory: Any, precision: str = "auto") -> WorldModel:
    return pair(vision, memory, torch.randn(32, vision.embed_size), precision=precision)


def save(run: Path, vision: VAE, memory: Any) -> Path:
    """As stages 2 and 3 leave them, for workers to open."""
    save_module(vision, run / "vision", "vision", env="doom", spec=EnvSpec("doom").plain(), clips=[])
    known = {"vision_fingerprint": fingerprint(vision.state_dict()), "starts": torch.randn(32, vision.embed_size)}
    save_module(memory, run / "memory", "memory", **known)
    return run


DOOM_PRODUCTS = [(64 + 2 + 512, 4 * 512), (512, 3 * 5 * 64 + 1)]
HEAD = [(64 + 128, 128), (128, 128)]
RSSM_PRODUCTS = [(64 + 6, 128), (256, 3 * 128), (128, 128), (128, 64), *HEAD, (128, 255), *HEAD, (128, 1)]
