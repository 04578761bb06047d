"""Proximal policy optimisation (Schulman et al. 2017): what an actor did is judged by what came of it and by what a
critic expects, and no gradient passes through the world.

So the world may be a dream (ppo_dreams.py) or the real environment (ppo_real.py).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodels.core import seeding
from worldmodels.core.report import say
from worldmodels.learners.losses import near_loss
from worldmodels.learners.pair import Pair
from worldmodels.learners.returns import advantages
from worldmodels.models.heads import ValueHead
from worldmodels.settings.learners.ppo import PPOSettings

FITTING = 300  # gradient steps of that critic, or more to the end of an epoch, each time
FITTING_RATE = 1e-3  # their size


class Decided(NamedTuple):
    """T decisions of B rows, and what came of each."""

    feat: Tensor  # (T, B, F), what was seen
    action: Tensor  # (T, B, A), as sampled
    log_prob: Tensor  # (T, B), of that
    value: Tensor  # (T, B), what the critic expected
    reward: Tensor  # (T, B), paid until the next decision, discounted
    discount: Tensor  # (T, B), of all that comes after, which may not come
    following: Tensor  # (T, B), what the critic expects of the state that it led to
    cut: Tensor  # (T, B), 1 where the next decision is another episode's


class PPO(Pair[PPOSettings]):
    """A Learner (evolution/learner.py), whatever the world is that it acts in."""

    log_every = 1
    judges = ValueHead
    _fits = False  # whether a new critic is to learn before the first update
    _fittings = 3  # times that an actor which is not new acts for it

    def decide(self, generator: torch.Generator) -> Decided:
        """Acts for an update: what that learns from, which depends on the generator and on what `state` tells."""
        raise NotImplementedError

    def update(self) -> dict[str, Tensor]:
        """Acts, and learns from that. Raises UserError if a gradient is not finite."""
        if self._fits:
            self._fit()
        generator = seeding.generator(self._seed, "ppo", self.step)
        decided = self.decide(generator)
        gain = self._gain(decided, self._settings.lambda_)
        returns = gain + decided.value
        losses = self._learn(decided, gain, returns, generator)
        self.step += 1
        left = (returns - decided.value).var(correction=0) / returns.var(correction=0).clamp_min(1e-12)
        return losses | {
            "return": returns.mean(),
            "value": decided.value.mean(),
            "explained": 1 - left,
            "reward": decided.reward.mean() / self._settings.hold,
        }

    def start_from(self, params: np.ndarray, beside: Path) -> None:
        """See Pair."""
        super().start_from(params, beside)
        self._fits = not beside.exists()

    def _fit(self) -> None:
        """A new critic learns what an actor is paid that is not new, and would unlearn by one that expects nothing."""
        (group,) = self.critic_optimizer.param_groups
        group["lr"] = FITTING_RATE
        say(f"the critic first learns what this actor is paid, from what it does in {self._fittings} updates' time")
        for again in range(self._fittings):
            generator = seeding.generator(self._seed, "ppo", "critic", again)
            decided = self.decide(generator)
            feat = decided.feat.flatten(0, 1)
            returns = (self._gain(decided, lambda_=1.0) + decided.value).flatten()
            steps = 0
            while steps < FITTING:
                for rows in self._shuffled(len(feat), generator):
                    self._judge_better(feat[rows], returns[rows])
                    steps += 1
        group["lr"] = self._settings.rates["critic"]
        self._fits = False

    def _judge_better(self, feat: Tensor, returns: Tensor) -> Tensor:
        """A gradient step of the critic, from features (N, F) and what came of them (N,). Returns its loss before."""
        loss = self.critic.loss(self.actor.scaled(feat), returns).mean()
        self.descend("critic", loss)
        return loss

    def _gain(self, decided: Decided, lambda_: float) -> Tensor:
        """By how much decisions were better than expected, (T, B)."""
        came = (decided.reward, decided.discount, decided.value, decided.following, decided.cut)
        return advantages(*came, lambda_)

    def _shuffled(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """The indices of that many decisions, in the batches of an epoch."""
        return [
            chosen.to(self._device)
            for chosen in torch.randperm(count, generator=generator).split(self._settings.batch_size)
        ]

    def value(self, feat: Tensor) -> Tensor:
        """What the critic expects (...,) of features (..., F)."""
        value: Tensor = self.critic(self.actor.scaled(feat))
        return value

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
            for rows in self._shuffled(len(feat), generator):
                stats = self.actor(feat[rows])
                log_prob = self.actor.actions.log_prob(stats, action[rows])
                entropy = self.actor.actions.entropy(stats).mean()
                of_actor = near_loss(log_prob, before[rows], gain[rows], settings.near)
                aim = of_actor - settings.entropy * entropy
                self.descend("actor", aim)
                of_critic = self._judge_better(feat[rows], returns[rows])
                moved = (before[rows] - log_prob).mean()
                lines.append(torch.stack([of_actor, of_critic, entropy, moved]).detach())
        means = torch.stack(lines).mean(0)
        return dict(zip(("actor_loss", "critic_loss", "entropy", "moved"), means, strict=True))
