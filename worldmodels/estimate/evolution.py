"""What stage 4 would take."""

import dataclasses
import math

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.agents import ModelAgent
from worldmodels.acting.controllerspec import ControllerSpec
from worldmodels.acting.policies import baselines
from worldmodels.acting.rollout import rollout
from worldmodels.core.device import device_of
from worldmodels.core.seeding import integer, rng
from worldmodels.envs.pool import pooled
from worldmodels.estimate.costs import Cost, Size, own_memory, seconds_per, show
from worldmodels.evolution.cma_es import FULL_COVARIANCE_LIMIT
from worldmodels.evolution.evaluators import DreamEvaluator
from worldmodels.models.base import WorldModel
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.settings.config import ControllerConfig, MemoryConfig, VisionConfig
from worldmodels.settings.presets import preset_of


def evolution(config: ControllerConfig) -> None:
    """Measures steps in dreams and in the real environment, and counts both, as if no episode ended early."""
    cpu = torch.device("cpu")
    model, source = _model(config, cpu)
    spec = ControllerSpec.of(config, model)
    controller = spec.controller(model)
    params = rng(config.seed, "estimate").normal(0, config.sigma0, (config.pop_size, controller.num_params))
    seeds = [integer(config.seed, "estimate", i) for i in range(config.episodes)]
    torch.set_num_threads(1)  # as in a worker
    pool = pooled(config.spec, config.lockstep)
    rows = np.resize(params, (config.lockstep, controller.num_params)).astype(np.float32)
    agent = ModelAgent(model, controller, spec.inputs, rows)
    luck = [integer(config.seed, "estimate", i) for i in range(config.lockstep)]
    real = seconds_per(lambda n: sum(o.length for o in rollout(pool, agent, luck, n)), config.max_steps)

    tests = -(-config.generations // config.test_every)
    tried = config.generations * config.pop_size * config.episodes
    sweep, cores, length = len(config.tau) or 1, max(1, config.workers), config.max_steps
    how = f"{config.lockstep} side by side here, resets included"
    if config.dream:
        device = device_of(config.device)
        dreaming, _ = _model(config, device)

        def world(steps: int) -> DreamEvaluator:
            lasting = dataclasses.replace(spec, max_steps=steps)
            return DreamEvaluator(dreaming, lasting, config.tau[0], config.sample_end)

        each = seconds_per(lambda n: float(world(n).evaluate(params, seeds).lengths.sum()), config.max_steps)
        tested = (tests + 1) * config.test_episodes  # once more at the end
        shapes = (config.pop_size, config.episodes), (1, config.test_episodes)
        blocks = [len(world(1).blocks(*shape)) for shape in shapes]
        of_all, of_one = (count / math.ceil(count / cores) for count in blocks)  # the last round may leave some idle
        at_once = f"{config.pop_size} x {config.episodes}, as it will dream them"
        costs = [
            Cost("dream step, evolving", each, sweep * tried * length, at_once, of_all),
            Cost("dream step, tests", each, sweep * tested * length, "the same", of_one),
            Cost("real step, shown beside", real, sweep * tests * config.real_episodes * length, how, cores),
        ]
    else:
        costs = [
            Cost("real step, evolving", real, tried * length, how, cores),
            Cost("real step, tests", real, tests * config.test_episodes * length, "the same", cores),
        ]
    final = (sweep + len(baselines(config.env))) * config.final_episodes * length
    costs += [Cost("real step, final scores", real, final, "the same, baselines too", cores)]
    numbers = controller.num_params
    matrices = 3 * numbers**2 if numbers <= FULL_COVARIANCE_LIMIT else 0
    sizes = [
        Size("disk: checkpoint", sweep * 8 * (matrices + 10 * numbers), f"CMA-ES over {numbers:,} numbers"),
        own_memory(),
    ]
    title = f"{config.generations} generations of C of {config.spec.label}, a dry run"
    show(f"{title}; every episode counts --max-steps {length:,} steps; {source}", costs, sizes)


def _model(config: ControllerConfig, device: torch.device) -> tuple[WorldModel, str]:
    """V and M on disk, or else new ones of the sizes that stages 2 and 3 have by this --preset."""
    if all((config.run / stage / models.FILE).exists() for stage in ("vision", "memory")):
        return models.load(config.run, device, config.spec.label, config.precision), f"V and M of {config.run}"
    action_size = pooled(config.spec, 1)[0].action_space.shape[0]  # type: ignore[index]
    vision = VAE(preset_of(VisionConfig, config.env, config.preset)["code_size"])
    asked = preset_of(MemoryConfig, config.env, config.preset)
    memory = MDNRNN(
        vision.code_size, action_size, asked["hidden_size"], restart_input=asked.get("restart_input", False),
        reward="alive", termination=False,
    )  # fmt: skip
    model = models.pair(vision, memory, torch.randn(16, vision.embed_size), device, config.precision)
    return model, f"V and M as --preset {config.preset} has them"
