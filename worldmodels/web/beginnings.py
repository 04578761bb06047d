"""Where exported dreams begin: states of the model, so that nothing has to be seen again to set out from them."""

import torch
from torch import Tensor

from worldmodels.core.seeding import Noise, integer
from worldmodels.data.rollouts import evenly
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import Eyes

MOST = 256  # of each kind


@torch.no_grad()
def beginnings(model: WorldModel, seed: int) -> dict[str, State]:
    """Up to MOST states for each kind of beginning: "starts", that have seen the first picture of a real episode, and
    "moments", in the midst of one, if the model has kept any."""
    chosen = evenly(len(model.starts), MOST)
    noise = Noise([integer(seed, "export", row) for row in chosen], model.noise_size)
    found = {"starts": Eyes(model, len(chosen)).see_code(model.starts[chosen], noise.draw())}
    if model.moments:
        some = evenly(len(next(iter(model.moments.values()))), MOST)
        found["moments"] = {name: value[some] for name, value in model.moments.items()}
    return found


def packed(states: State) -> dict[str, Tensor]:
    """The same; of what is alike in all rows, one."""
    return {
        name: (value[:1] if bool((value == value[:1]).all()) else value).float().contiguous()
        for name, value in states.items()
    }
