"""Pictures in and out of networks: scale and layout change here only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def to_input(obs: Tensor) -> Tensor:
    """uint8 (..., 64, 64, 3) -> float32 (N, 3, 64, 64) in [0, 1], N the product of the leading sizes."""
    return obs.reshape(-1, *obs.shape[-3:]).permute(0, 3, 1, 2).float() / 255


def to_obs(picture: Tensor) -> Tensor:
    """float32 (..., 3, 64, 64) in [0, 1] -> uint8 (..., 64, 64, 3)."""
    return (picture * 255).round().to(torch.uint8).movedim(-3, -1)


class Halving(nn.Conv2d):
    """A convolution of stride 2 without padding; where few pixels come out, it sees by one matrix product.

    Of a handful of pictures, oneDNN's convolutions spend longer on laying out the weights than on multiplying.
    """

    FEW = 4  # pixels
    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, n, n) -> (N, O, (n - k) // 2 + 1, ...)."""
        kernel = self.kernel_size[0]
        size = (x.shape[-1] - kernel) // 2 + 1
        if torch.is_grad_enabled() or size**2 > self.FEW:
            return super().forward(x)
        windows = x.unfold(2, kernel, 2).unfold(3, kernel, 2).permute(0, 2, 3, 4, 5, 1)  # (N, s, s, k, k, I)
        y = windows.flatten(3).flatten(0, 2) @ self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        return (y + self.bias.to(y.dtype)).unflatten(0, (-1, size, size)).permute(0, 3, 1, 2)


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution of stride 2 without padding, computed as what is fastest on a CPU, exactly.

    Output pixel 2i + a only meets the kernel's taps of parity a: four ordinary convolutions, one per parity of row and
    column, in one call, whose outputs are then interleaved. From a single pixel it is a matrix product. Kernels of 3 or
    more.
    """

    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, I, n, n) -> (N, O, 2(n - 1) + k, ...), channels last in memory."""
        outputs, size = self.out_channels, self.kernel_size[0]
        if x.shape[-1] == 1:
            y = (x.flatten(1) @ self.weight.flatten(1)).unflatten(1, (outputs, size, size))
            return (y + self.bias.to(y.dtype)[:, None, None]).contiguous(memory_format=torch.channels_last)
        taps = -(-size // 2)  # of each parity
        weight = F.pad(self.weight, (0, size % 2, 0, size % 2)).unflatten(3, (taps, 2)).unflatten(2, (taps, 2))
        weight = weight.flip(2, 4).permute(3, 5, 1, 0, 2, 4).flatten(0, 2)  # (2 * 2 * O, I, taps, taps)
        # oneDNN has a fast way for a padding of 1, not for more
        y = F.conv2d(F.pad(x, (taps - 2,) * 4), weight, padding=1)
        y = y.permute(0, 2, 3, 1).unflatten(3, (2, 2, outputs)) + self.bias.to(y.dtype)
        y = y.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return y[..., : y.shape[-2] - size % 2, : y.shape[-1] - size % 2]


class PictureDecoder(nn.Sequential):
    """Codes (..., Z) to pictures (..., 3, 64, 64) in (0, 1): the decoder of World Models (CLASSIC 1.3)."""

    def __init__(self, code_size: int) -> None:
        super().__init__(
            nn.Linear(code_size, 1024),  # no activation here, unlike many re-implementations
            nn.Unflatten(1, (1024, 1, 1)),
            Doubling(1024, 128, 5), nn.ReLU(),  # 1 -> 5
            Doubling(128, 64, 5), nn.ReLU(),    # -> 13
            Doubling(64, 32, 6), nn.ReLU(),     # -> 30
            Doubling(32, 3, 6),                 # -> 64
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        picture = super().forward(z.reshape(-1, z.shape[-1]))
        return torch.sigmoid(picture.float()).reshape(*z.shape[:-1], *picture.shape[1:])
