"""Dreams of 64 candidates on 16 episodes each, beside one episode at a time, and beside the matrix products alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Row, Work, work
from benchmarks.products import chain
from worldmodels.actor import Actor
from worldmodels.envspec import EnvSpec
from worldmodels.evaluators import DreamEvaluator
from worldmodels.models import pair
from worldmodels.models.base import WorldModel
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.recurrent import RSSMMemory
from worldmodels.models.vae import VAE

POPULATION, EPISODES, STEPS = 64, 16, 60


def rows() -> Iterator[Row]:
    batch = POPULATION * EPISODES
    for name, sized, shapes, of_limit in (
        ("dream, Doom's size", doom_sized, DOOM_PRODUCTS, 0.6),
        ("dream, RSSM of laptop size", rssm_sized, RSSM_PRODUCTS, 0.5),
    ):
        ours, plain = dreams(sized(), POPULATION, EPISODES), one_at_a_time(sized(precision="fp32"))
        limit = work(batch * STEPS, chain(*((batch, k, m) for k, m in shapes), times=STEPS))
        yield Row(name, "steps/s", ours, plain, limit, 10.0, of_limit)


def dreams(model: WorldModel, population: int, episodes: int, steps: int = STEPS) -> Work:
    """As stage 4 dreams a generation."""
    actor = Actor(EnvSpec("doom"), Path(), model.default_inputs, 0, True, steps, "auto")
    evaluator = DreamEvaluator(model, actor, 1.0)
    params = np.random.default_rng(0).normal(0, 0.1, (population, actor.controller(model).num_params))
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
            memory.head.bias[3 * memory.mixtures * memory.code_size] = -100.0
        else:
            memory.end_head[-1].bias.fill_(-100.0)  # type: ignore[operator,union-attr]
    return memory


def doom_sized(code_size: int = 64, precision: str = "auto") -> WorldModel:
    memory = never_ending(MDNRNN(code_size, 1, 512, restart_input=True, reward="alive"))
    return pair(VAE(code_size), memory, torch.randn(32, 2 * code_size), precision=precision)


def rssm_sized(precision: str = "auto") -> WorldModel:
    memory = never_ending(RSSMMemory(128, 64, 6, 128, 8, 8, 128))
    return pair(VAE(64), memory, torch.randn(32, 128), precision=precision)


DOOM_PRODUCTS = [(64 + 2 + 512, 4 * 512), (512, 3 * 5 * 64 + 1)]
HEAD = [(64 + 128, 128), (128, 128)]
RSSM_PRODUCTS = [(64 + 6, 128), (256, 3 * 128), (128, 128), (128, 64), *HEAD, (128, 255), *HEAD, (128, 1)]
