"""Proximal policy optimisation (Schulman et al. 2017) in dreams: what an actor did is judged by what came of it and by
what a critic expects, and no gradient passes through the dream.

A dream tells how likely it was to end at every step, so returns count what was to be expected there, and not whether
chance had it: of a thousand steps one ends, and an actor that learnt from that one alone would learn from noise.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldmodels.acting.actor import Actor, Scaled
from worldmodels.core import schema, seeding
from worldmodels.core.errors import UserError
from worldmodels.dreams.moments import shifted
from worldmodels.imagination.losses import near_loss
from worldmodels.imagination.pair import NETWORKS, Pair
from worldmodels.imagination.returns import advantages
from worldmodels.imagination.rollout import bounded
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import Eyes
from worldmodels.settings.learners.ppo import PPOSettings

SETTLING = 64  # decisions of chance, from which features are scaled
STATE = schema.fields({}, step=schema.whole(0), dreams=schema.weights, age=schema.tensor("int64", None), **NETWORKS)
"""What `PPO.state` is."""


class Decided(NamedTuple):
    """T decisions of B rows, and what came of each."""

    feat: Tensor  # (T, B, F), what was seen
    action: Tensor  # (T, B, A), as sampled
    log_prob: Tensor  # (T, B), of that
    value: Tensor  # (T, B), what the critic expected
    reward: Tensor  # (T, B), paid until the next decision, discounted
    discount: Tensor  # (T, B), of all that comes after, which may not come
    following: Tensor  # (T, B), what the critic expects of the state that it led to
    cut: Tensor  # (T, B), 1 where the next decision is another dream's


class PPO(Pair[PPOSettings]):
    """A Learner (evolution/learner.py).

    Its dreams go on from one update to the next; those that end, and those that have lasted long enough, begin anew.

    Args:
        model: what dreams; frozen.
        actor: new.
        inputs: the parts of the features that both get.
        settings: its own.
        seed: that all luck comes from; each update has a stream of its own.
        tau: temperature of the dreams.
        shift: nats, added to the logit of dreamt ends.
        dropout: of Pair.
        longest: steps after which a dream begins anew, once the decision in hand is over.
        midway: dreams begin at moments of real episodes, not where those began.

    Attributes:
        step: updates so far.
    """

    log_every = 1
    cores_left = 1  # to others: its steps are small, and threads wait for each other while a neighbour has one's core

    def __init__(
        self,
        model: WorldModel,
        actor: Actor,
        inputs: tuple[str, ...],
        settings: PPOSettings,
        seed: int,
        tau: float = 1.0,
        shift: float = 0.0,
        dropout: float = 0.0,
        longest: int = 1000,
        midway: bool = True,
    ) -> None:
        super().__init__(model, actor, inputs, settings, seed, tau, shift, dropout)
        self._longest = longest
        self._midway = midway
        self._age = torch.zeros(settings.rows, dtype=torch.long)
        generator = seeding.generator(seed, "ppo", "begin")
        self._dreams = self._begin(settings.rows, generator)
        self._settle(generator)
        # as if they had begun one after the other, for later they will have
        self._age = torch.randint(longest, (settings.rows,), generator=generator)

    @property
    def dreamt(self) -> int:
        """See Pair."""
        return self._settings.rows * self._settings.decisions * self._settings.hold

    def brief(self, line: dict[str, float]) -> dict[str, str]:
        """What of a line the progress bar shows."""
        return {"return": f"{line['return']:.1f}", "steps/s": f"{line['steps_per_second']:.0f}"}

    def update(self) -> dict[str, Tensor]:
        """Dreams on, and learns from that. Raises UserError if a gradient is not finite."""
        generator = seeding.generator(self._seed, "ppo", self.step)
        decided = self._decide(generator)
        gain = advantages(
            decided.reward,
            decided.discount,
            decided.value,
            decided.following,
            decided.cut,
            self._settings.lambda_,
        )
        returns = gain + decided.value
        losses = self._learn(decided, gain, returns, generator)
        self.step += 1
        left = (returns - decided.value).var() / returns.var().clamp_min(1e-12)
        return losses | {
            "return": returns.mean(),
            "value": decided.value.mean(),
            "explained": 1 - left,
            "reward": decided.reward.mean() / self._settings.hold,
        }

    def check(self, state: dict[str, Any], source: Path) -> None:
        """See Pair."""
        schema.check(state, STATE, source)

    def state(self) -> dict[str, Any]:
        """All that changes from update to update, as plain data and tensors."""
        return self.networks() | {"step": self.step, "dreams": dict(self._dreams), "age": self._age}

    def load(self, state: dict[str, Any], source: Path) -> None:
        """Goes on from where `state` was taken.

        Raises:
            UserError: naming the file `source`, if that was of another actor and critic, or is damaged.
        """
        self.check(state, source)
        needed = {name: (value.dtype, value.shape) for name, value in self._dreams.items()}
        held = {name: (value.dtype, value.shape) for name, value in state["dreams"].items()}
        if held != needed or state["age"].shape != self._age.shape:
            raise UserError(f"{source} holds dreams of another size; start anew with --fresh")
        self.load_networks(state, source)
        self._dreams = {name: value.to(self._device) for name, value in state["dreams"].items()}
        self._age = state["age"]
        self.step = state["step"]

    @torch.no_grad()
    def _settle(self, generator: torch.Generator) -> None:
        """Finds how large features are while what is done is chance's."""
        actions = self.actor.actions
        feats = []
        for _ in range(SETTLING):
            feats.append(self._features())
            stats = torch.zeros(self._settings.rows, actions.stats_size, device=self._device)
            luck = self._uniform(generator, self._settings.rows, actions.noise_size)
            _, _, lives = self._hold(bounded(actions.sample(stats, luck)), generator)
            self._renew(lives, generator)
        if isinstance(self.actor.scaled, Scaled):
            self.actor.scaled.settle(torch.cat(feats))

    def _value(self, feat: Tensor) -> Tensor:
        """What the critic expects (B,) of features (B, F)."""
        value: Tensor = self.critic(self.actor.scaled(feat))
        return value

    @torch.no_grad()
    def _decide(self, generator: torch.Generator) -> Decided:
        """What this update learns from."""
        settings = self._settings
        decisions: list[tuple[Tensor, ...]] = []
        for _ in range(settings.decisions):
            feat = self._features()
            stats = self.actor(feat)
            luck = self._uniform(generator, settings.rows, self.actor.actions.noise_size)
            action = self.actor.actions.sample(stats, luck)
            reward, discount, lives = self._hold(bounded(action), generator)
            following = self._value(self._features())
            cut = self._renew(lives, generator)
            decisions.append(
                (
                    feat,
                    action,
                    self.actor.actions.log_prob(stats, action),
                    self._value(feat),
                    reward,
                    discount,
                    following,
                    cut,
                )
            )
        return Decided(*(torch.stack(part) for part in zip(*decisions, strict=True)))

    def _hold(self, action: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Does the same for some steps: what is to be expected of pay and discount (B,), and how likely a row lives."""
        settings = self._settings
        paid = torch.zeros(settings.rows, device=self._device)
        discount = torch.ones_like(paid)
        lives = torch.ones_like(paid)
        for _ in range(settings.hold):
            luck = self._uniform(generator, settings.rows, self._model.noise_size)
            dreamt = self._model.imagine(self._dreams, action, luck, self._tau)
            self._dreams = dreamt.state
            on = 1 - shifted(dreamt.end, self._shift)
            paid = paid + discount * dreamt.reward
            discount = settings.discount * discount * on
            lives = lives * on
        self._age += settings.hold
        return paid, discount, lives

    def _renew(self, lives: Tensor, generator: torch.Generator) -> Tensor:
        """Begins rows anew that ended, each with its likelihood, or have lasted long enough; 1 for those (B,)."""
        ended = self._uniform(generator, len(lives)) > lives
        over = ended | (self._age >= self._longest).to(self._device)
        rows = over.nonzero().squeeze(-1)
        if len(rows):
            fresh = self._begin(len(rows), generator)
            self._dreams = {name: value.index_copy(0, rows, fresh[name]) for name, value in self._dreams.items()}
            self._age[rows.cpu()] = 0
        return over.float()

    def _begin(self, count: int, generator: torch.Generator) -> State:
        """The first states of that many dreams."""
        there = self._model.moments if self._midway else {"": self._model.starts}
        chosen = torch.randint(len(next(iter(there.values()))), (count,), generator=generator).to(self._device)
        if self._midway:
            return self.in_worlds({name: value[chosen] for name, value in there.items()}, generator)
        luck = self._uniform(generator, count, self._model.noise_size)
        return self.in_worlds(Eyes(self._model, count).see_code(self._model.starts[chosen], luck), generator)

    def _learn(self, decided: Decided, gain: Tensor, returns: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Some epochs of gradient steps. Returns the means of what was lost and kept."""
        settings = self._settings
        feat = decided.feat.flatten(0, 1)
        action = decided.action.flatten(0, 1)
        before = decided.log_prob.flatten()
        gain = gain.flatten()
        returns = returns.flatten()
        lines = []
        for _ in range(settings.epochs):
            for chosen in torch.randperm(len(feat), generator=generator).split(settings.batch_size):
                rows = chosen.to(self._device)
                stats = self.actor(feat[rows])
                log_prob = self.actor.actions.log_prob(stats, action[rows])
                entropy = self.actor.actions.entropy(stats).mean()
                of_actor = near_loss(log_prob, before[rows], gain[rows], settings.near)
                aim = of_actor - settings.entropy * entropy
                self.descend("actor", aim)
                of_critic = self.critic.loss(self.actor.scaled(feat[rows]), returns[rows]).mean()
                self.descend("critic", of_critic)
                moved = (before[rows] - log_prob).mean()
                lines.append(torch.stack([of_actor, of_critic, entropy, moved]).detach())
        means = torch.stack(lines).mean(0)
        return dict(zip(("actor_loss", "critic_loss", "entropy", "moved"), means, strict=True))

    def _features(self) -> Tensor:
        return self._model.features(self._dreams, self._inputs).float()

    def _uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        return seeding.uniform(generator, *shape).to(self._device)
