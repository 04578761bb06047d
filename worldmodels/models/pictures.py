"""Pictures in and out of networks: scale and layout change here only."""

import torch
from torch import Tensor, nn

from worldmodels.models.fast.convolutions import Doubling


def to_input(obs: Tensor) -> Tensor:
    """uint8 (..., 64, 64, 3) -> float32 (N, 3, 64, 64) in [0, 1], N the product of the leading sizes."""
    return obs.reshape(-1, *obs.shape[-3:]).permute(0, 3, 1, 2).float() / 255


def to_obs(picture: Tensor) -> Tensor:
    """float32 (..., 3, 64, 64) in [0, 1] -> uint8 (..., 64, 64, 3)."""
    return (picture * 255).round().to(torch.uint8).movedim(-3, -1)


class PictureDecoder(nn.Sequential):
    """Codes (..., Z) to pictures (..., 3, 64, 64) in (0, 1): the decoder of World Models (CLASSIC 1.3)."""

    def __init__(self, code_size: int) -> None:
        super().__init__(
            nn.Linear(code_size, 1024),  # no activation here, unlike many re-implementations
            nn.Unflatten(1, (1024, 1, 1)),
            Doubling(1024, 128, 5),  # 1 -> 5
            nn.ReLU(),
            Doubling(128, 64, 5),  # -> 13
            nn.ReLU(),
            Doubling(64, 32, 6),  # -> 30
            nn.ReLU(),
            Doubling(32, 3, 6),  # -> 64
        )

    def forward(self, z: Tensor) -> Tensor:
        picture: Tensor = super().forward(z.reshape(-1, z.shape[-1]))  # type: ignore[no-untyped-call]
        return torch.sigmoid(picture.float()).reshape(*z.shape[:-1], *picture.shape[1:])
