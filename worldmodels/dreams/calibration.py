"""Whether a model's dreams can be trusted: what it expects of held-out episodes, how long its dreams last.

It asks the WorldModel only, so it serves every family.
"""

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
    ends = []  # (E,) each
    rewards = []
    for t, state in zip(range(longest), perceive(model, embeds, actions, noise), strict=False):
        action = rows_at(actions, t).to(model.starts.device)
        dreamt = model.imagine(state, action, noise.draw())
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
