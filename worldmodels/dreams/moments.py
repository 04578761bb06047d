"""Moments of real episodes, as a model remembers them: where short dreams begin.

A dream that begins with an episode has to invent all that comes later; what M forgets meanwhile, no controller learns.
One that begins in the midst of a real episode has what really happened until then in its memory.
"""

import numpy as np
import torch

from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import perceive

EPISODES = 256
EACH = 8  # moments of an episode


def some_episodes(embeddings: Embeddings) -> list[EmbeddedEpisode]:
    """Up to EPISODES training episodes, of shards spread evenly over all."""
    shards = embeddings.rollouts.spread(EPISODES)
    each = -(-EPISODES // len(shards))
    return [episode for shard in shards for episode in embeddings.episodes(shard)[:each]][:EPISODES]


@torch.no_grad()
def moments(model: WorldModel, episodes: list[EmbeddedEpisode], seed: int) -> State:
    """States at random steps of real episodes, seen with open eyes from the beginning; float16, EACH of an episode.

    None is an episode's last, after which nothing happens. An episode may give the same step twice.
    """
    count = len(episodes)
    luck = rng(seed, "moments")
    at = np.stack([luck.integers(len(episode.action), size=EACH) for episode in episodes])  # (episodes, EACH)
    noise = Noise([integer(seed, "moments", i) for i in range(count)], model.noise_size, model.starts.device)
    embeds = [torch.from_numpy(episode.embed).float() for episode in episodes]
    actions = [torch.from_numpy(episode.action) for episode in episodes]
    found: list[State] = []
    for t, state in zip(range(int(at.max()) + 1), perceive(model, embeds, actions, noise), strict=False):
        rows = torch.from_numpy(np.repeat(np.arange(count), (at == t).sum(1)))
        if len(rows):
            found.append({name: value[rows.to(value.device)].half().cpu() for name, value in state.items()})
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}
