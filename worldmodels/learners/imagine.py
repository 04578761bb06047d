"""Dreams through which gradients pass: from states of real episodes, some steps on, as an actor samples its actions."""

from typing import NamedTuple

import torch
from torch import Tensor

from worldmodels.acting.actions import bounded
from worldmodels.acting.actor import Actor
from worldmodels.dreams.moments import shifted
from worldmodels.models.base import State, WorldModel


class Imagined(NamedTuple):
    """B dreams of T steps. Time comes first; state 0 is where they begin, and action t leads from state t to t + 1."""

    feat: Tensor  # (T + 1, B, F)
    stats: Tensor  # (T, B, D), what the actor made of features 0 .. T - 1
    action: Tensor  # (T, B, A), as sampled
    reward: Tensor  # (T, B), paid on arriving at states 1 .. T
    end: Tensor  # (T, B), how likely the episode ended there


def imagine(
    model: WorldModel,
    actor: Actor,
    inputs: tuple[str, ...],
    state: State,
    noise: Tensor,
    tau: float = 1.0,
    shift: float = 0.0,
) -> Imagined:
    """Dreams on from `state`; gradients pass from everything to earlier actions, if they are enabled.

    They reach the actor by its actions alone: what it looks at is detached. Of what an M makes of an action they see
    all that is smooth: an RSSM's samples are straight-through; of an MDN-RNN's, mean and spread of the component that
    was drawn, and not which one that was.

    Args:
        model: in fp32; its weights learn nothing.
        actor: samples the actions.
        inputs: the parts of the features that it gets.
        state: of B rows, where dreams begin.
        noise: float32 (T, B, N + n) in (0, 1): N for the model, n for the actor.
        tau: temperature.
        shift: nats, added to the logit of ends (dreams/moments.py).
    """
    feats = [model.features(state, inputs).float()]
    steps: list[tuple[Tensor, ...]] = []
    for drawn in noise:
        stats = actor(feats[-1].detach())
        action = actor.actions.sample(stats, drawn[:, model.noise_size :])
        dreamt = model.imagine(state, bounded(action), drawn[:, : model.noise_size], tau)
        state = dreamt.state
        feats.append(model.features(state, inputs).float())
        steps.append((stats, action, dreamt.reward, shifted(dreamt.end, shift)))
    return Imagined(torch.stack(feats), *(torch.stack(part) for part in zip(*steps, strict=True)))
