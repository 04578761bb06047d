"""What stage 4 would take."""

import dataclasses
import math

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.agents import ModelAgent
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.acting.policies import baselines
from worldmodels.acting.rollout import rollout
from worldmodels.core.device import prepare_device
from worldmodels.core.seeding import integer, rng
from worldmodels.dreams.planning_agent import seconds_a_decision
from worldmodels.envs.reused import numbers_in_an_action, reused
from worldmodels.estimate.costs import Cost, Size, own_memory, seconds_per, show
from worldmodels.estimate.training import MadeUp
from worldmodels.evolution.cma_es import FULL_COVARIANCE_LIMIT
from worldmodels.evolution.evaluators import DreamEvaluator
from worldmodels.learners.actor_critic import ActorCritic
from worldmodels.learners.ppo_dreams import DreamPPO
from worldmodels.models.base import WorldModel
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.models import ActorCriticSettings, ActorSettings, PPOSettings
from worldmodels.settings.shared import usual
from worldmodels.settings.stages import ControllerConfig, MemoryConfig, VisionConfig

SAMPLED = 256  # candidates, and episodes of each: if there are more, so many are measured


Asked = tuple[VisionConfig, MemoryConfig] | None
"""How V and M will be trained that are not on disk yet; None for as this --preset has it."""


def evolution(config: ControllerConfig, asked: Asked = None) -> float:
    """Measures steps in dreams and in the real environment, and counts both, as if no episode ended early.

    Returns the seconds.
    """
    model, source = _model(config, torch.device("cpu"), asked)
    spec = ControllerSpec.of(config, model)
    if spec.actor:
        params = spec.new_actor(model).params().numpy()[None]
    else:
        shape = (min(config.pop_size, SAMPLED), spec.controller(model).num_params)
        params = rng(config.seed, "estimate").normal(0, config.sigma0, shape)
    numbers = params.shape[1]
    torch.set_num_threads(1)  # as in a worker
    real = _real_step(config, spec, model, params)
    costs = _dreamt(config, spec, params, real, asked) if config.dream else _real(config, real)
    final = (len(config.tau) or 1) + len(baselines(config.env))
    times = final * config.final_episodes * config.max_steps
    costs += [Cost("real step, final scores", real, times, "the same, baselines too", _cores(config))]
    size = _actor_checkpoint(numbers) if spec.actor else _search_checkpoint(numbers)
    sizes = [size._replace(bytes=(len(config.tau) or 1) * size.bytes), own_memory()]
    unit, count = config.length
    title = f"{count} {unit} of C of {config.spec.label}, a dry run"
    counted = f"every episode counts --max-steps {config.max_steps:,} steps"
    if config.short_dreams:
        counted += f", while {'tested' if spec.actor else 'evolving'} --horizon {config.short_dreams:,}"
    return show(f"{title}; {counted}; {source}", costs, sizes)


def _search_checkpoint(numbers: int) -> Size:
    matrices = 3 * numbers**2 if numbers <= FULL_COVARIANCE_LIMIT else 0
    return Size("disk: checkpoint", 8 * (matrices + 10 * numbers), f"CMA-ES over {numbers:,} numbers")


def _actor_checkpoint(numbers: int) -> Size:
    """Actor and critic with two moments each, a slow critic or the dreams in hand, and the best actors."""
    return Size("disk: checkpoint", 4 * 9 * numbers, f"an actor of {numbers:,} numbers, its critic, and Adam's moments")


def evaluation(config: EvaluateConfig, controller: ControllerConfig, asked: Asked = None) -> float:
    """Measures steps in the real environment, as if no episode ended early. Returns the seconds."""
    model, source = _model(controller, torch.device("cpu"), asked)
    spec = ControllerSpec.of(controller, model)
    torch.set_num_threads(1)  # as in a worker
    idle = np.zeros(spec.controller(model).num_params)
    params = spec.new_actor(model).params().numpy() if spec.actor else idle
    real = _real_step(controller, spec, model, params[None])
    policies = len(baselines(controller.env)) if config.baselines else 0
    times = (1 + policies) * config.episodes * controller.max_steps
    cores = max(1, config.workers)
    costs = [Cost("real step", real, times, "baselines' too", cores)]
    if config.plan != "none":
        decision = seconds_a_decision(model, config.planning())
        costs += [Cost("decision", decision, config.episodes * controller.max_steps, f"by {config.plan}", cores)]
    return show(f"{config.episodes} episodes of evaluation, a dry run; {source}", costs, [own_memory()])


def _cores(config: ControllerConfig) -> int:
    return max(1, config.workers)


def _luck(config: ControllerConfig, count: int) -> list[int]:
    return [integer(config.seed, "estimate", i) for i in range(count)]


def _real_step(
    config: ControllerConfig,
    spec: ControllerSpec,
    model: WorldModel,
    params: np.ndarray,
) -> float:
    """Seconds of a step in the real environment, by as many candidates as play side by side."""
    envs = reused(config.spec, config.lockstep)
    seeds = _luck(config, config.lockstep)
    which = np.arange(config.lockstep) % len(params)
    agent = ModelAgent(model, spec.controller(model), spec.inputs, params.astype(np.float32), which=which)
    return seconds_per(lambda n: sum(o.length for o in rollout(envs, agent, seeds, n)), config.max_steps)


def _real(config: ControllerConfig, step: float) -> list[Cost]:
    """What learning and its tests cost in the real environment; gradients of an actor take less than its episodes."""
    trained = isinstance(config.model, ActorSettings)
    at_once = config.episodes if trained else config.pop_size * config.episodes
    groups = math.ceil(at_once / config.lockstep)
    cores = groups / math.ceil(groups / _cores(config))  # the last ones may leave some idle
    played = config.length[1] * at_once * config.max_steps
    learning = Cost(f"real step, {'training' if trained else 'evolving'}", step, played, _how(config), cores)
    tests = _tests(config) * config.test_episodes * config.max_steps
    return [
        learning,
        Cost("real step, tests", step, tests, "the same", _cores(config)),
    ]


def _dreamt(
    config: ControllerConfig,
    spec: ControllerSpec,
    params: np.ndarray,
    real: float,
    asked: Asked,
) -> list[Cost]:
    """What they cost in dreams, and the real episodes that are shown beside."""
    device = prepare_device(config.device)
    dreaming, _ = _model(config, device, asked)
    seeds = _luck(config, min(config.test_episodes if spec.actor else config.episodes, SAMPLED))

    def world(steps: int) -> DreamEvaluator:
        lasting = dataclasses.replace(spec, max_steps=steps)
        return DreamEvaluator(dreaming, lasting, config.tau[0], config.sample_end)

    each = seconds_per(lambda n: float(world(n).evaluate(params, seeds).lengths.sum()), config.max_steps)
    shapes = (config.pop_size, config.episodes), (1, config.test_episodes)
    blocks = [len(world(1).blocks(*shape)) for shape in shapes]
    # the last round may leave some cores idle
    of_all, of_one = (count / math.ceil(count / _cores(config)) for count in blocks)
    # steps of one episode in each dream that is evolved in: whole, and as short as dreams are while it evolves
    whole = (len(config.tau) or 1) * config.max_steps
    short = (len(config.tau) or 1) * (config.short_dreams or config.max_steps)
    tried = config.generations * config.pop_size * config.episodes * short
    tests = config.test_episodes * (_tests(config) * short + whole)  # once more at the end
    all_of_them = (len(params), len(seeds)) == (config.pop_size, config.episodes)
    which = "as it will dream them" if all_of_them else "of those that it will dream"
    at_once = f"{len(params)} x {len(seeds)}, {which}"
    beside = _tests(config) * config.real_episodes
    learning = Cost("dream step, evolving", each, tried, at_once, of_all)
    if spec.actor:
        exact = dataclasses.replace(config, precision="fp32") if config.learner == "actor-critic" else config
        learning = _update(config, spec, _model(exact, device, asked)[0])
    return [
        learning,
        Cost("dream step, tests", each, tests, at_once if spec.actor else "the same", of_one),
        Cost("real step, shown beside", real, beside * whole, _how(config), _cores(config)),
    ]


def _update(config: ControllerConfig, spec: ControllerSpec, model: WorldModel) -> Cost:
    """What the updates of actor and critic cost, by all cores together."""
    settings = config.model
    actor = spec.new_actor(model)
    if isinstance(settings, PPOSettings):
        learner: ActorCritic | DreamPPO = DreamPPO(model, actor, spec.inputs, settings, config.seed, midway=False)
        dreams = f"{settings.rows} x {settings.decisions * settings.hold}"
        threads = max(1, _cores(config) - DreamPPO.cores_left)
    else:
        assert isinstance(settings, ActorCriticSettings)
        start = model.initial(settings.batch_size)
        learner = ActorCritic(model, actor, spec.inputs, start, settings, config.seed)
        dreams = f"{settings.batch_size} x {settings.imagine}"
        threads = _cores(config)

    def work(count: int) -> float:
        for _ in range(count):
            learner.advance()
        return count

    torch.set_num_threads(threads)  # as it will be
    each = seconds_per(work)
    torch.set_num_threads(1)
    times = (len(config.tau) or 1) * settings.updates
    return Cost("update", each, times, f"{dreams}, by {threads} threads together")


def _tests(config: ControllerConfig) -> int:
    return -(-config.length[1] // config.test_every)


def _how(config: ControllerConfig) -> str:
    return f"{config.lockstep} side by side here, resets included"


def _model(config: ControllerConfig, device: torch.device, asked: Asked) -> tuple[WorldModel, str]:
    """V and M on disk, or else new ones as stages 2 and 3 are asked to have them, or as this --preset has them."""
    if all((config.run / stage / models.FILE).exists() for stage in ("vision", "memory")) and not config.fresh:
        found = models.load(config.run, device, config.spec.label, config.precision)
        return found, f"V and M of {config.run}"
    data = MadeUp(numbers_in_an_action(reused(config.spec, 1)[0]))
    usually = usual(VisionConfig, config.env, config.preset), usual(MemoryConfig, config.env, config.preset)
    v, m = asked or usually
    vision = models.class_of(v.vision, "vision").build(v.model, data)
    m = models.settled(m, vision)
    lasting = dataclasses.replace(m.model, reward="alive", termination=False)
    memory = models.class_of(m.memory, "memory").build(lasting, data, vision)
    model = models.pair(vision, memory, torch.randn(16, vision.embed_size), device, config.precision)
    return model, f"V and M as --preset {config.preset} has them"
