"""Whether a model's dreams can be trusted: what it expects of held-out episodes, how long its dreams last.

It asks the WorldModel only, so it serves every family.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodels.acting.policies import POLICIES
from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.data.embeddings import EmbeddedEpisode
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.play import Player, by_itself
from worldmodels.models.base import WorldModel
from worldmodels.models.perceive import perceive, rows_at
from worldmodels.models.worlds import in_turn

AGES = (0, 60, 120, 180, 240, 300, 400, 600, 900)  # steps; the last age has no end


class Deaths(NamedTuple):
    """How many episodes ended by themselves in each of the AGES, and after how many steps of all that came so far."""

    steps: np.ndarray  # int64 (len(AGES),)
    deaths: np.ndarray  # int64 (len(AGES),)

    @property
    def rates(self) -> np.ndarray:
        """Deaths per 1,000 steps, float64 (len(AGES),); not a number where no episode came so far."""
        return self._in_a_thousand(self.deaths)

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the rates, of counts that are Poisson's; where nobody died, that of one death."""
        return self._in_a_thousand(np.sqrt(np.maximum(self.deaths, 1)))

    def _in_a_thousand(self, count: np.ndarray) -> np.ndarray:
        found = np.full(len(self.steps), np.nan)
        np.divide(1000 * count, self.steps, out=found, where=self.steps > 0)
        return found


def deaths(lengths: np.ndarray, terminated: np.ndarray) -> Deaths:
    """By age, of episodes that lasted `lengths` steps (E,); those that did not end by themselves were cut there."""
    ends = (*AGES[1:], max(int(lengths.max(initial=0)), AGES[-1]))
    steps = [np.clip(lengths - begin, 0, end - begin).sum() for begin, end in zip(AGES, ends, strict=True)]
    died = lengths[terminated.astype(bool)]
    within = [((died > begin) & (died <= end)).sum() for begin, end in zip(AGES, ends, strict=True)]
    return Deaths(np.array(steps, np.int64), np.array(within, np.int64))


def ages() -> list[str]:
    """What the AGES are called in tables and plots."""
    return [*(f"{begin}-{end}" for begin, end in itertools.pairwise(AGES)), "beyond"]


@torch.no_grad()
def one_step(
    model: WorldModel, episodes: list[EmbeddedEpisode], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One step ahead, eyes open, along real episodes.

    Returns:
        Predicted probability of termination, whether it terminated, predicted reward, reward; each
        (steps,), the steps of all episodes.
    """
    count = len(episodes)
    longest = max(len(e.action) for e in episodes)
    embeds = [torch.from_numpy(e.embed).float() for e in episodes]
    actions = [torch.from_numpy(e.action) for e in episodes]
    noise = Noise([integer(seed, "one step", i) for i in range(count)], model.noise_size, model.starts.device)
    members = in_turn(model.members, count, model.starts.device)
    ends = []  # (E,) each
    rewards = []
    for t, state in zip(range(longest), perceive(model, embeds, actions, noise), strict=False):
        action = rows_at(actions, t).to(model.starts.device)
        dreamt = model.imagine(state | members, action, noise.draw())
        ends.append(dreamt.end.cpu().numpy())
        rewards.append(dreamt.reward.cpu().numpy())
    return (
        _one_after_another(ends, episodes),
        np.concatenate([_terminates(episode) for episode in episodes]),
        _one_after_another(rewards, episodes),
        np.concatenate([episode.reward for episode in episodes]),
    )


def _one_after_another(at_each_step: list[np.ndarray], episodes: list[EmbeddedEpisode]) -> np.ndarray:
    """What was found of all episodes at each step, (E,) each, as (steps,): that of the first episode, ..."""
    rows = zip(np.stack(at_each_step, 1), episodes, strict=True)
    return np.concatenate([row[: len(episode.action)] for row, episode in rows])


def _terminates(episode: EmbeddedEpisode) -> np.ndarray:
    """bool (T,): whether the world ended with each step."""
    ends = np.zeros(len(episode.action), bool)
    ends[-1:] = episode.terminated
    return ends


def blind_dreams(
    model: WorldModel,
    policy: str,
    episodes: int,
    max_steps: int,
    seed: int,
    tau: float = 1.0,
    sample_end: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """What a blind policy dreams, to be compared with reality: returns float64, lengths int64, (episodes,).

    A dream that is too kind to a policy as simple as this will be found out by evolution.
    """
    seeds = [integer(seed, "dream lengths", i) for i in range(episodes)]
    policies = [POLICIES[policy](rng(s, "policy"), model.action_size) for s in seeds]

    def actions(step: int) -> Tensor:
        return torch.from_numpy(np.stack([act(step) for act in policies])).to(model.starts.device)

    lives = Player(Dream(model, tau, sample_end), by_itself, max_steps).play(seeds, actions)
    return lives.returns.cpu().numpy(), lives.lengths.long().cpu().numpy()
