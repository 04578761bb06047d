"""Where dreams begin that an actor is trained in: moments of real episodes, seen anew."""

import numpy as np
import torch

from worldmodels import models
from worldmodels.core.seeding import integer
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.dreams.moments import moments, some_episodes
from worldmodels.models.base import State, WorldModel
from worldmodels.settings.stages import ControllerConfig

TOGETHER = 32  # episodes, about as long as each other, that are seen side by side: the short ones wait for the long


def starts(config: ControllerConfig, model: WorldModel, count: int) -> State:
    """`count` states of `model`, (count, ...) each: what it saw of the rollouts, and remembers of them.

    All steps are alike but an episode's last, which is none.

    Raises:
        UserError: if there are no rollouts, or no codes of them by this V.
    """
    rollouts = Rollouts(rollout_folder(config.data), config.spec.label)
    vision, _ = models.load_module(config.run / "vision", "vision")
    episodes = some_episodes(Embeddings(config.data / "codes", rollouts, vision))
    return among(model, episodes, config.seed, count)


def among(model: WorldModel, episodes: list[EmbeddedEpisode], seed: int, count: int) -> State:
    """The same, of these episodes."""
    in_order = sorted(episodes, key=lambda episode: len(episode.action))
    groups = [in_order[i : i + TOGETHER] for i in range(0, len(in_order), TOGETHER)]
    steps = [sum(len(episode.action) for episode in group) for group in groups]
    shares = np.diff(np.round(np.cumsum([0, *steps]) * (count / sum(steps)))).astype(int)
    states = [
        moments(model, group, integer(seed, "starts", number), int(share)).states
        for number, (group, share) in enumerate(zip(groups, shares, strict=True))
        if share
    ]
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}
