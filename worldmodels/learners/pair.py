"""What the learners of an actor and a critic have in common: both networks, how they go down a gradient, and what of
them is kept in files."""

import math
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from worldmodels.acting.actor import Actor
from worldmodels.core import checkpoint, schema
from worldmodels.core.errors import UserError
from worldmodels.core.report import say
from worldmodels.models.heads import RewardHead
from worldmodels.settings.models import ActorCriticSettings, PPOSettings
from worldmodels.training.train import load_moments

EPS = 1e-5  # Adam's
PAIR = ("actor", "critic")
MOMENTS = schema.fields(state=schema.named(schema.weights, int), param_groups=schema.each(schema.anything))
NETWORKS: dict[str, schema.Check] = {
    "actor": schema.weights,
    "critic": schema.weights,
    "actor_optimizer": MOMENTS,
    "critic_optimizer": MOMENTS,
}
"""What `Pair.networks` is."""
RUN = schema.fields(None, schema.anything, search=schema.anything)
"""The checkpoint of a run of stage 4, as far as it is a learner's."""
OTHERS = schema.fields(None, schema.anything, **NETWORKS)
"""The state of any learner that has them."""
S = TypeVar("S", ActorCriticSettings, PPOSettings)


class Pair(Generic[S]):
    """An actor and a critic that learn from each other, update by update.

    Args:
        actor: new.
        settings: of the learner.
        seed: that all luck comes from.
        device: where both compute.

    Attributes:
        step: updates so far.
    """

    unit = "update"
    finishes = True
    judges: type[RewardHead] = RewardHead  # what its critic is

    def __init__(self, actor: Actor, settings: S, seed: int, device: torch.device) -> None:
        self.step = 0
        self.total = settings.updates
        self.save_every = settings.save_every
        self._settings: S = settings
        self._seed = seed
        self._device = device
        self.actor = actor.to(self._device)
        self.critic = self.judges(actor.feat_size, settings.units, settings.layers).to(self._device)
        self.actor_optimizer = _adam(self.actor, settings.rates["actor"])
        self.critic_optimizer = _adam(self.critic, settings.rates["critic"])

    @property
    def params(self) -> np.ndarray:
        """float32 (D,), the actor's."""
        found: np.ndarray = self.actor.params().cpu().numpy()
        return found

    @property
    def steps(self) -> int:
        """Of dreams or of the environment, that the last update learnt from."""
        raise NotImplementedError

    def update(self) -> dict[str, Tensor]:
        """Acts, and learns from that. Returns what a person wants to see.

        Raises:
            UserError: if a gradient is not finite; nothing was changed by it.
        """
        raise NotImplementedError

    def start_from(self, params: np.ndarray, beside: Path) -> None:
        """Begins with the numbers (D,) of another actor, and with the critic in the checkpoint `beside`, if it exists.

        Raises:
            UserError: naming `beside`, if that has no critic of these sizes, or is damaged.
        """
        self.actor.given(torch.from_numpy(params)[None].to(self._device))
        if beside.exists():
            self._take_over(checkpoint.load(beside, "controller run", RUN)["search"], beside)
        else:
            say(f"note: {beside} is not there, so the critic begins anew")

    def _take_over(self, state: dict[str, Any], source: Path) -> None:
        """What judges an actor, as `state` has it."""
        schema.check(state, OTHERS, source)
        checkpoint.load_weights(self.critic, state["critic"], source)

    def advance(self) -> dict[str, float]:
        """An update, and how long it took."""
        began = time.monotonic()
        line = {name: float(value) for name, value in self.update().items()}
        seconds = time.monotonic() - began
        return line | {"seconds": seconds, "steps_per_second": self.steps / seconds}

    def networks(self) -> dict[str, Any]:
        """Both, with their optimizers, as plain data and tensors."""
        return {name: getattr(self, name).state_dict() for name in NETWORKS}

    def load_networks(self, state: dict[str, Any], source: Path) -> None:
        """Puts them where these were taken.

        Raises:
            UserError: naming the file `source`, if they were of others, or moments are missing.
        """
        for name in PAIR:
            checkpoint.load_weights(getattr(self, name), state[name], source)
            optimizer = getattr(self, f"{name}_optimizer")
            moments = state[f"{name}_optimizer"]["state"]
            if len(moments) != len(optimizer.param_groups[0]["params"]):  # each was moved at every update
                raise UserError(f"{source} lacks moments of an optimizer; start anew with --fresh")
            load_moments(optimizer, moments, source)

    def descend(self, name: str, loss: Tensor) -> None:
        """Moves the weights of the actor or the critic down the gradient of `loss`, and no others.

        Raises:
            UserError: if the gradient is not finite.
        """
        optimizer = getattr(self, f"{name}_optimizer")
        parameters = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._settings.max_norm)
        if not math.isfinite(float(norm)):
            raise UserError(
                f"the gradient of the {name} is not finite at update {self.step}; try --fresh with a "
                f"{self._flag(name)} below {self._settings.rates[name]:g} (the last checkpoint is kept)"
            )
        optimizer.step()

    def _flag(self, name: str) -> str:
        """That sets the step size of the actor or the critic."""
        rates = self._settings.rates
        return "--learning-rate" if rates[name] == rates["actor"] else f"--{name}-learning-rate"


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """For those of its numbers that are trained."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, learning_rate, eps=EPS)
