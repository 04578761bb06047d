"""From what a V says of a picture to the code z that M and C are given."""

import math

import torch
from torch import Tensor

POINT_STD = 0.1  # of codes whose own standard deviation is 1


def sample_code(embed: Tensor, noise: Tensor) -> Tensor:
    """A code z (..., Z) from an embedding and standard normal noise (..., Z).

    Whether the embedding is a point or a distribution, its width says, beside that of the noise.

    Args:
        embed: a point (..., Z), or [mu, logvar] (..., 2Z). A point gets noise of POINT_STD: of exact points an M's
            likelihood could grow without bound.
        noise: as many numbers as a code has.

    Raises:
        ValueError: if the embedding is neither as wide as the noise nor twice as wide.
    """
    width = embed.shape[-1]
    code_size = noise.shape[-1]
    if width == code_size:
        return embed + POINT_STD * noise
    if width != 2 * code_size:
        raise ValueError(f"an embedding of {width} numbers is neither a point nor a distribution of {code_size}")
    mu, logvar = embed.chunk(2, -1)
    return mu + (logvar / 2).exp() * noise


def normal(drawn: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones."""
    return torch.erfinv(drawn * 2 - 1) * math.sqrt(2)  # a fifth of ndtri's time
