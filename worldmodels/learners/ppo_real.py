"""PPO in the real environment: workers play whole episodes, as the actor samples them, and it learns from those."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodels import models
from worldmodels.acting.actor import Actor, Scaled
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core import schema, seeding
from worldmodels.core.errors import UserError
from worldmodels.learners.lived import Lived, LivedTask, paid, play
from worldmodels.learners.pair import NETWORKS
from worldmodels.learners.ppo import PPO, Decided
from worldmodels.settings.learners.ppo import PPOSettings
from worldmodels.workers.local import Workers

STATE = schema.fields({}, step=schema.whole(0), **NETWORKS)
"""What `RealPPO.state` is."""


class RealPPO(PPO):
    """PPO in real episodes, others for every update.

    An episode that was cut short may have gone on: its last decision only says what was to be expected there. One that
    was given up pays nothing more.

    Args:
        actor: new.
        settings: its own.
        seed: that all luck comes from; each update has streams of its own.
        device: where both learn; they act on processors.
        spec: how to act.
        workers: who play.
        episodes: that an update learns from.
        lockstep: of them, that one worker plays side by side; groups are fixed by it, not by the number of workers.
        patience: steps on end without a positive reward after which an episode is given up; 0: none is.
        failures: what went wrong in episodes that others were played for is noted there.

    Attributes:
        step: updates so far.
    """

    def __init__(
        self,
        actor: Actor,
        settings: PPOSettings,
        seed: int,
        device: torch.device,
        spec: ControllerSpec,
        workers: Workers,
        episodes: int,
        lockstep: int,
        patience: int,
        failures: list[str],
    ) -> None:
        super().__init__(actor, settings, seed, device)
        self._workers = workers
        self._episodes = episodes
        self._lockstep = lockstep
        self._failures = failures
        self._settled = not isinstance(actor.scaled, Scaled)
        there = spec.for_worker(workers.send(spec.run, models.FILES))
        version = models.fingerprint(spec.run)
        self._task = functools.partial(LivedTask, there, version, patience, settings.hold)
        self._returns = np.zeros(0)  # of the last update's episodes
        self._steps = 0

    @property
    def steps(self) -> int:
        """See Pair."""
        return self._steps

    def brief(self, line: dict[str, float]) -> dict[str, str]:
        """What of a line the progress bar shows."""
        return {"return": f"{line['episode_return']:.1f}", "steps/s": f"{line['steps_per_second']:.0f}"}

    def update(self) -> dict[str, Tensor]:
        """See PPO; and what its episodes were paid."""
        line = super().update()
        return line | {"episode_return": torch.tensor(self._returns.mean())}

    def decide(self, generator: torch.Generator) -> Decided:
        """See PPO: T decisions of all episodes, one after the other, as one row.

        Raises:
            UserError: if all were cut short within their first decision.
        """
        if not self._settled:
            self._settle()
        lived = self._play(generator, by_chance=False)
        self._returns = np.array([one.rewards.sum(dtype=float) for one in lived])
        self._steps = sum(len(one.rewards) for one in lived)
        parts = [part for one in lived if (part := self._of(one)) is not None]
        if not parts:
            raise UserError("no episode has two decisions to learn from; give more --max-steps, or a shorter --hold")
        return Decided(*(torch.cat(part).unsqueeze(1) for part in zip(*parts, strict=True)))

    def start_from(self, params: np.ndarray, beside: Path) -> None:
        """See Pair; what features are scaled by comes along."""
        self._settled = True
        super().start_from(params, beside)

    def state(self) -> dict[str, Any]:
        """All that changes from update to update, as plain data and tensors."""
        return self.networks() | {"step": self.step}

    def load(self, state: dict[str, Any], source: Path) -> None:
        """Goes on from where `state` was taken.

        Raises:
            UserError: naming the file `source`, if that was of another actor and critic, or is damaged.
        """
        schema.check(state, STATE, source)
        self.load_networks(state, source)
        self.step = state["step"]
        self._settled = True

    def _settle(self) -> None:
        """Finds how large features are while what is done is chance's."""
        feats = [one.feat for one in self._play(seeding.generator(self._seed, "ppo", "begin"), by_chance=True)]
        assert isinstance(self.actor.scaled, Scaled)
        with torch.no_grad():
            self.actor.scaled.settle(torch.from_numpy(np.concatenate(feats)).to(self._device))
        self._settled = True

    def _play(self, generator: torch.Generator, by_chance: bool) -> list[Lived]:
        """Episodes of the actor as it is now, in the order of their seeds."""
        seeds = torch.randint(2**31, (self._episodes,), generator=generator).tolist()
        params = self.params
        groups = [seeds[i : i + self._lockstep] for i in range(0, len(seeds), self._lockstep)]
        played = self._workers.map(play, [self._task(by_chance, params, group) for group in groups])
        lived = [one for group in played for one in group]
        self._failures += [told for one in lived for told in one.failures]
        return lived

    @torch.no_grad()
    def _of(self, one: Lived) -> tuple[Tensor, ...] | None:
        """The fields of Decided for one episode, (K, ...), where it is over, else (K - 1, ...); None: none."""
        feat = torch.from_numpy(one.feat).to(self._device)
        value = self.value(feat)
        reward, discount = (
            torch.from_numpy(part).float().to(self._device)
            for part in paid(one.rewards, self._settings.hold, self._settings.discount)
        )
        following = torch.cat([value[1:], torch.zeros_like(value[:1])])
        count = len(feat) if one.over else len(feat) - 1
        if not count:
            return None
        cut = torch.zeros_like(value)
        cut[count - 1] = 1
        action = torch.from_numpy(one.action).to(self._device)
        log_prob = self.actor.actions.log_prob(self.actor(feat), action)
        fields = (feat, action, log_prob, value, reward, discount, following, cut)
        return tuple(field[:count] for field in fields)
