"""Moments of real episodes, as a model remembers them: where short dreams begin, and where ends are calibrated.

A dream that begins with an episode has to invent all that comes later; what M forgets meanwhile, no controller learns.
One that begins in the midst of a real episode has what really happened until then in its memory.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.data.shard import Shard
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import perceive
from worldmodels.models.worlds import in_turn

EPISODES = 256
MANY = 2048
AHEAD = 200  # steps that are dreamt from each, to see how many ends are expected
STRONGEST = 3.0  # nats that expected ends are shifted by at most


class Moments(NamedTuple):
    """Moments of real episodes."""

    states: State  # of the model: (count, ...) each
    episode: np.ndarray  # (count,), which
    step: np.ndarray  # (count,), of it


def some_episodes(embeddings: Embeddings, among: Sequence[Shard] | None = None) -> list[EmbeddedEpisode]:
    """Up to EPISODES training episodes, of shards spread evenly over all, or over those that are named."""
    shards = embeddings.rollouts.spread(EPISODES, among)
    each = -(-EPISODES // len(shards))
    return [episode for shard in shards for episode in embeddings.episodes(shard)[:each]][:EPISODES]


@torch.no_grad()
def moments(model: WorldModel, episodes: list[EmbeddedEpisode], seed: int, count: int = MANY) -> Moments:
    """`count` random steps of real episodes, all steps alike, seen with open eyes from the beginning.

    None is an episode's last, after which nothing happens. The same step may come twice.
    """
    lengths = np.array([len(episode.action) for episode in episodes])
    ends = np.cumsum(lengths)
    chosen = np.sort(rng(seed, "moments").integers(ends[-1], size=count))
    of = np.searchsorted(ends, chosen, side="right")
    at = chosen - (ends - lengths)[of]
    noise = Noise([integer(seed, "moments", i) for i in range(len(episodes))], model.noise_size, model.starts.device)
    embeds = [torch.from_numpy(episode.embed).float() for episode in episodes]
    actions = [torch.from_numpy(episode.action) for episode in episodes]
    states: list[State] = []
    for t, state in zip(range(int(at.max()) + 1), perceive(model, embeds, actions, noise), strict=False):
        rows = torch.from_numpy(of[at == t])
        states.append({name: value[rows.to(value.device)] for name, value in state.items()})
    whole = {name: torch.cat([part[name] for part in states]) for name in states[0]}
    in_time = np.argsort(at, kind="stable")
    return Moments(whole, of[in_time], at[in_time])


@torch.no_grad()
def end_shift(
    model: WorldModel,
    found: Moments,
    episodes: list[EmbeddedEpisode],
    tau: float,
    seed: int,
) -> float:
    """What is to be added to the logit of dreamt ends, so that as many dreams end within AHEAD steps of a moment as
    real episodes did.

    Ends that M expects after real pictures are calibrated; what it dreams is less and less like those. In the dreams
    is done what was done in the episodes, and where one is over, what was done from its beginning on: that makes sense
    of blind policies only.

    Returns:
        nats; 0 where no episode ended by itself.
    """
    pairs = list(zip(found.episode, found.step, strict=True))
    left = np.array([len(episodes[e].action) - t for e, t in pairs])
    share = share_of_ends(left, np.array([episodes[e].terminated for e in found.episode]))
    if not share:
        return 0.0
    noise = Noise([integer(seed, "end shift", i) for i in range(len(left))], model.noise_size, model.starts.device)
    doing = torch.from_numpy(np.stack([_going_on(episodes[e].action, t) for e, t in pairs])).to(model.starts.device)
    state = found.states | in_turn(model.members, len(left), model.starts.device)
    ends = []
    for t in range(AHEAD):
        dreamt = model.imagine(state, doing[:, t], noise.draw(), tau)
        state = dreamt.state
        ends.append(dreamt.end.double().cpu())
    return shift_for(torch.stack(ends, 1), share)


def share_of_ends(left: np.ndarray, terminated: np.ndarray) -> float:
    """How likely an episode ends by itself within AHEAD steps, by those that were cut, too, as long as they were seen
    (Kaplan & Meier 1958).

    Args:
        left: (S,), steps that each was seen for.
        terminated: bool (S,), whether it then ended by itself.
    """
    lives = 1.0
    for step in range(1, AHEAD + 1):
        seen = int((left >= step).sum())
        ended = int(((left == step) & terminated).sum())
        lives *= 1 - ended / max(1, seen)
    return 1 - lives


def _going_on(action: np.ndarray, step: int) -> np.ndarray:
    """AHEAD actions (AHEAD, A) from `step` on, going round."""
    return action[(step + np.arange(AHEAD)) % len(action)]


def shift_for(expected: Tensor, share: float) -> float:
    """The shift at which that share of dreams ends, found by halving.

    Args:
        expected: float64 (S, T), probability that each step is the last.
        share: of the S that ends within T steps.
    """
    low = -STRONGEST
    high = STRONGEST
    while high - low > 1e-3:
        middle = (low + high) / 2
        end = 1 - (1 - shifted(expected, middle)).prod(1)
        if float(end.mean()) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def shifted(end: Tensor, shift: float) -> Tensor:
    """Probabilities whose logits are `shift` nats higher."""
    if not shift:
        return end
    lifted = end * math.exp(shift)
    return lifted / (1 - end + lifted)
