"""PPO in dreams.

A dream tells how likely it was to end at every step, so returns count what was to be expected there, and not whether
chance had it: of a thousand steps one ends, and an actor that learnt from that one alone would learn from noise.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodels.acting.actions import bounded
from worldmodels.acting.actor import Actor, Scaled
from worldmodels.core import schema, seeding
from worldmodels.core.errors import UserError
from worldmodels.dreams.moments import shifted
from worldmodels.learners.pair import NETWORKS
from worldmodels.learners.ppo import PPO, Decided
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import Eyes
from worldmodels.models.worlds import in_worlds
from worldmodels.settings.learners.ppo import PPOSettings

SETTLING = 64  # decisions of chance, from which features are scaled
FITTED_BEYOND = 3  # times the steps that a discount sees, for what a new critic leaves out to be a twentieth
FITTED_AT_MOST = 20  # times
STATE = schema.fields({}, step=schema.whole(0), dreams=schema.weights, age=schema.tensor("int64", None), **NETWORKS)
"""What `DreamPPO.state` is."""


class DreamPPO(PPO):
    """PPO in dreams.

    Its dreams go on from one update to the next; those that end, and those that have lasted long enough, begin anew.

    Args:
        model: what dreams; frozen.
        actor: new.
        inputs: the parts of the features that both get.
        settings: its own.
        seed: that all luck comes from; each update has a stream of its own.
        tau: temperature of the dreams.
        shift: nats, added to the logit of dreamt ends.
        dropout: share of z and h that is hidden from M, in every dream another (models/worlds.py).
        longest: steps after which a dream begins anew, once the decision in hand is over.
        midway: dreams begin at moments of real episodes, not where those began.

    Attributes:
        step: updates so far.
    """

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
        super().__init__(actor, settings, seed, model.starts.device)
        self._model = model
        self._inputs = inputs
        self._tau = tau
        self._shift = shift
        self._dropout = dropout
        self._longest = longest
        # What comes after an update's decisions a critic only learns from what it expects there itself.
        beyond = FITTED_BEYOND / max(1 - settings.discount, 1e-9)
        times = math.ceil(beyond / (settings.decisions * settings.hold))
        self._fittings = min(max(self._fittings, times), FITTED_AT_MOST)
        self._midway = midway
        self._age = torch.zeros(settings.rows, dtype=torch.long)
        generator = seeding.generator(seed, "ppo", "begin")
        self._dreams = self._begin(settings.rows, generator)
        self._settle(generator)
        # as if they had begun one after the other, for later they will have
        self._age = torch.randint(longest, (settings.rows,), generator=generator)

    @property
    def steps(self) -> int:
        """See Pair."""
        return self._settings.rows * self._settings.decisions * self._settings.hold

    def brief(self, line: dict[str, float]) -> dict[str, str]:
        """What of a line the progress bar shows."""
        return {"return": f"{line['return']:.1f}", "steps/s": f"{line['steps_per_second']:.0f}"}

    def state(self) -> dict[str, Any]:
        """All that changes from update to update, as plain data and tensors."""
        return self.networks() | {"step": self.step, "dreams": dict(self._dreams), "age": self._age}

    def load(self, state: dict[str, Any], source: Path) -> None:
        """Goes on from where `state` was taken.

        Raises:
            UserError: naming the file `source`, if that was of another actor and critic, or is damaged.
        """
        schema.check(state, STATE, source)
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

    @torch.no_grad()
    def decide(self, generator: torch.Generator) -> Decided:
        """See PPO."""
        settings = self._settings
        decisions: list[tuple[Tensor, ...]] = []
        for _ in range(settings.decisions):
            feat = self._features()
            stats = self.actor(feat)
            luck = self._uniform(generator, settings.rows, self.actor.actions.noise_size)
            action = self.actor.actions.sample(stats, luck)
            reward, discount, lives = self._hold(bounded(action), generator)
            following = self.value(self._features())
            cut = self._renew(lives, generator)
            decisions.append(
                (
                    feat,
                    action,
                    self.actor.actions.log_prob(stats, action),
                    self.value(feat),
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
            return self._in_worlds({name: value[chosen] for name, value in there.items()}, generator)
        luck = self._uniform(generator, count, self._model.noise_size)
        return self._in_worlds(Eyes(self._model, count).see_code(self._model.starts[chosen], luck), generator)

    def _in_worlds(self, state: State, generator: torch.Generator) -> State:
        return in_worlds(self._model, state, self._dropout, generator)

    def _features(self) -> Tensor:
        return self._model.features(self._dreams, self._inputs).float()

    def _uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        return seeding.uniform(generator, *shape).to(self._device)
