"""A model that is led along real episodes with its eyes open."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from worldmodels.core.seeding import Noise
from worldmodels.models.base import State, WorldModel


@torch.no_grad()
def perceive(model: WorldModel, embeds: Sequence[Tensor], actions: Sequence[Tensor], noise: Noise) -> Iterator[State]:
    """The state of all episodes, side by side, at every step.

    Args:
        model: any WorldModel.
        embeds: of each episode, float32 (T+1, E): what V makes of its frames.
        actions: of each episode, float32 (T, A): what was done.
        noise: with a row for each.

    Yields:
        The state that has seen frames 0 to t, for t = 0 .. the longest T. A shorter episode is shown its last frame for
        ever; its rows mean nothing then.
    """
    device, count = model.starts.device, len(embeds)
    action = torch.zeros(count, model.action_size, device=device)
    state = model.initial(count)
    for t in range(max(map(len, embeds))):
        first = torch.full((count, 1), float(t == 0), device=device)
        state = model.observe(state, action, rows_at(embeds, t).to(device), first, noise.draw())
        yield state
        action = rows_at(actions, t).to(device)


def rows_at(series: Sequence[Tensor], t: int) -> Tensor:
    """Row `t` of each, its last one where it is over: (B, ...)."""
    return torch.stack([each[min(t, len(each) - 1)] for each in series])
