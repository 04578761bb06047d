"""An actor and a critic that learn from each other in dreams (HRSSM 4)."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodels.acting.actions import Choices
from worldmodels.acting.actor import Actor
from worldmodels.core import checkpoint, schema, seeding
from worldmodels.learners.imagine import Imagined, imagine
from worldmodels.learners.losses import actor_loss, critic_loss
from worldmodels.learners.pair import NETWORKS, Pair
from worldmodels.learners.returns import Scale, lambda_returns, weights
from worldmodels.models.base import State, WorldModel
from worldmodels.models.worlds import in_worlds
from worldmodels.settings.learners.actor_critic import ActorCriticSettings
from worldmodels.training.train import LOG_EVERY

FOLLOWS = 0.02  # of the critic, that its slow copy takes over before each update
STATE = schema.fields(
    {},
    step=schema.whole(0),
    scale=schema.tensor("float32", 2),
    slow=schema.weights,
    **NETWORKS,
)
"""What `ActorCritic.state` is."""


class ActorCritic(Pair[ActorCriticSettings]):
    """A Learner (evolution/learner.py): trains `actor` in dreams, and the critic that tells it what lies beyond their
    ends.

    Each update's randomness has a stream of its own, so an update depends on nothing but what `state` holds.

    Args:
        model: what dreams; in fp32, and frozen.
        actor: new.
        inputs: the parts of the features that both get.
        starts: states of real episodes, where dreams begin.
        settings: its own.
        seed: that all luck comes from.
        tau: temperature of the dreams.
        shift: nats, added to the logit of dreamt ends.
        dropout: share of z and h that is hidden from M, in every dream another (models/worlds.py).

    Attributes:
        step: updates so far.
    """

    log_every = LOG_EVERY

    def __init__(
        self,
        model: WorldModel,
        actor: Actor,
        inputs: tuple[str, ...],
        starts: State,
        settings: ActorCriticSettings,
        seed: int,
        tau: float = 1.0,
        shift: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(actor, settings, seed, model.starts.device)
        self._model = model
        self._inputs = inputs
        self._tau = tau
        self._shift = shift
        self._dropout = dropout
        self._starts = starts
        self.slow = copy.deepcopy(self.critic).requires_grad_(False)
        self.scale = Scale(self._device)

    @property
    def steps(self) -> int:
        """See Pair."""
        return self._settings.batch_size * (self._settings.imagine - 1)

    def brief(self, line: dict[str, float]) -> dict[str, str]:
        """For the progress bar."""
        return {"return": f"{line['return']:.3g}", "value": f"{line['value']:.3g}"}

    def update(self) -> dict[str, Tensor]:
        """The slow critic follows, the actor learns, then the critic. Returns what a person wants to see.

        Raises:
            UserError: if a gradient is not finite; nothing was changed by it.
        """
        self._follow()
        dreamt = self._imagine()
        discount = self._settings.discount * (1 - dreamt.end)
        certain = torch.full_like(discount[:1], self._settings.discount)  # episodes went on where dreams begin
        weight = weights(torch.cat([certain, discount[:-1]]))
        value = self.critic(dreamt.feat)
        returns = lambda_returns(dreamt.reward, discount, value[1:], self._settings.lambda_)
        scale = self.scale.update(returns)
        judged = (returns, value[:-1], weight, scale, self._settings.entropy)
        of_actor = actor_loss(self.actor.actions, dreamt.stats, dreamt.action, *judged)
        self.descend("actor", of_actor)
        seen = dreamt.feat[:-1].detach()
        of_critic = critic_loss(self.critic, seen, returns, self.slow(seen), weight)
        self.descend("critic", of_critic)
        self.step += 1
        return {
            "actor_loss": of_actor.detach(),
            "critic_loss": of_critic.detach(),
            "return": returns.detach().mean(),
            "value": value.detach().mean(),
            "reward": dreamt.reward.detach().mean(),
            "end": dreamt.end.detach().mean(),
            "entropy": self.actor.actions.entropy(dreamt.stats).detach().mean(),
            "scale": scale,
        }

    def state(self) -> dict[str, Any]:
        """All that changes from update to update, as plain data and tensors."""
        more = {"step": self.step, "slow": self.slow.state_dict(), "scale": self.scale.quantiles}
        return self.networks() | more

    def load(self, state: dict[str, Any], source: Path) -> None:
        """Goes on from where `state` was taken.

        Raises:
            UserError: naming the file `source`, if that was of another actor and critic, or is damaged.
        """
        schema.check(state, STATE, source)
        self.load_networks(state, source)
        self._load_slow(state, source)
        self.step = state["step"]

    def _take_over(self, state: dict[str, Any], source: Path) -> None:
        schema.check(state, STATE, source)
        super()._take_over(state, source)
        self._load_slow(state, source)

    def _load_slow(self, state: dict[str, Any], source: Path) -> None:
        """What follows the critic and the returns over many updates."""
        checkpoint.load_weights(self.slow, state["slow"], source)
        self.scale.quantiles = state["scale"].to(self._device)

    @torch.no_grad()
    def _follow(self) -> None:
        for slow, fast in zip(self.slow.parameters(), self.critic.parameters(), strict=True):
            slow.lerp_(fast, FOLLOWS)

    def _imagine(self) -> Imagined:
        """Dreams of this update; of choices, no gradient passes through the dream, and all that is needed is judged."""
        generator = seeding.generator(self._seed, "imagination", self.step)
        rows = torch.randint(len(next(iter(self._starts.values()))), (self._settings.batch_size,), generator=generator)
        begun = {name: value[rows.to(value.device)] for name, value in self._starts.items()}
        state = in_worlds(self._model, begun, self._dropout, generator)
        size = self._model.noise_size + self.actor.actions.noise_size
        noise = seeding.uniform(generator, self._settings.imagine - 1, self._settings.batch_size, size)
        chooses = isinstance(self.actor.actions, Choices)
        with torch.set_grad_enabled(not chooses):
            dreamt = imagine(
                self._model, self.actor, self._inputs, state, noise.to(self._device), self._tau, self._shift
            )
        return dreamt._replace(stats=self.actor(dreamt.feat[:-1])) if chooses else dreamt
