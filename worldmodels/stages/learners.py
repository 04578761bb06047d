"""What C is to learn by, as stage 4 is asked for it: CMA-ES, or an actor with its critic, in dreams or in reality."""

import torch

from worldmodels import models
from worldmodels.acting.actor import Actor
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core import seeding
from worldmodels.core.device import prepare_device
from worldmodels.core.report import say
from worldmodels.evolution.cma_es import FULL_COVARIANCE_LIMIT
from worldmodels.evolution.evaluators import Evaluator
from worldmodels.evolution.learner import Evolution, Learner
from worldmodels.learners.actor_critic import ActorCritic
from worldmodels.learners.ppo_dreams import DreamPPO
from worldmodels.learners.ppo_real import RealPPO
from worldmodels.learners.starts import starts
from worldmodels.models.base import WorldModel
from worldmodels.settings.models import ActorCriticSettings, PPOSettings
from worldmodels.settings.stages import ControllerConfig
from worldmodels.workers.local import Workers


def new_learner(
    config: ControllerConfig,
    spec: ControllerSpec,
    model: WorldModel,
    tried: Evaluator,
    workers: Workers,
    failures: list[str],
) -> Learner:
    """What is asked for, new.

    Args:
        config: of one controller.
        spec: how it acts.
        model: V and M.
        tried: where candidates of evolution are tried.
        workers: who play for an actor that learns in the real environment.
        failures: how that failed is added to it.

    Raises:
        UserError: as what makes it does.
    """
    if isinstance(config.model, ActorCriticSettings):
        return _actor_critic(config, config.model, spec)
    if isinstance(config.model, PPOSettings):
        if config.dream:
            return _dreaming(config, config.model, spec, model)
        torch.set_num_threads(1)  # sums of gradients, and so what is learnt, are then the same for any --workers
        actor = _actor(config, spec, model)
        play = (spec, workers, config.episodes, config.lockstep, config.patience, failures)
        return RealPPO(actor, config.model, config.seed, model.starts.device, *play)
    return _evolution(config, spec, model, tried)


def _evolution(config: ControllerConfig, spec: ControllerSpec, model: WorldModel, world: Evaluator) -> Evolution:
    """CMA-ES, over the numbers of a new controller."""
    numbers = spec.controller(model).num_params
    if numbers > FULL_COVARIANCE_LIMIT:
        say(f"{numbers} numbers are too many for a full covariance matrix: CMA-ES keeps its diagonal only")
    return Evolution(config, world, numbers)


def _actor(config: ControllerConfig, spec: ControllerSpec, model: WorldModel) -> Actor:
    """A new one; the critic that is made next follows from the same seed."""
    torch.manual_seed(seeding.integer(config.seed, "actor", "weights"))
    return spec.new_actor(model)


def _dreaming(config: ControllerConfig, settings: PPOSettings, spec: ControllerSpec, model: WorldModel) -> DreamPPO:
    """A new actor and its critic, in the same dreams."""
    torch.set_num_threads(max(1, config.workers - DreamPPO.cores_left))
    longest = config.short_dreams or config.max_steps
    luck = (config.seed, config.tau[0], model.end_shift, config.dream_dropout)
    midway = config.short_dreams > 0
    return DreamPPO(model, _actor(config, spec, model), spec.inputs, settings, *luck, longest, midway)


def _actor_critic(config: ControllerConfig, settings: ActorCriticSettings, spec: ControllerSpec) -> ActorCritic:
    """A new actor and its critic, in the same dreams. What they learn in computes in fp32, whatever acts in tests.

    Raises:
        UserError: if there are no rollouts to begin dreams at.
    """
    model = models.load(config.run, prepare_device(config.device), config.spec.label, "fp32")
    begin = starts(config, model, settings.starts)
    shift = model.end_shift if config.sample_end else 0.0
    luck = (config.seed, config.tau[0], shift, config.dream_dropout)
    return ActorCritic(model, _actor(config, spec, model), spec.inputs, begin, settings, *luck)
