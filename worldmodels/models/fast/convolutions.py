"""Convolutions of stride 2, down and up; on a CPU computed as what is fastest there, exactly. Exported, they are what
they are called, for other runtimes have ways of their own; but from one pixel those take ten times as long, too."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

FEW = 25  # windows of a picture, up to which one product of them all beats oneDNN's convolution


class Halving(nn.Conv2d):
    """A convolution of stride 2 without padding. Where its windows are few, they are gathered and multiplied at once:
    oneDNN would spend longer on laying out the weights."""

    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, n, n) -> (N, O, m, m), m = (n - k) // 2 + 1."""
        size = (x.shape[-1] - self.kernel_size[0]) // 2 + 1
        if size**2 > FEW or not _by_hand(x):
            return super().forward(x)
        windows: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
            x.permute(0, 2, 3, 1),
            self.kernel_size[0],
        )
        weight = self.weight.to(x.dtype).permute(2, 3, 1, 0).flatten(0, 2)
        y = windows.flatten(3) @ weight
        return (y + self.bias.to(y.dtype)).permute(0, 3, 1, 2)


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution of stride 2 without padding; kernels of 3 or more.

    From few pixels, each is multiplied into the window that it reaches, and windows are added up. From many: output
    pixel 2i + a only meets the kernel's taps of parity a, so there are four ordinary convolutions, one per parity of
    row and column, in one call, whose outputs are interleaved.
    """

    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, I, n, n) -> (N, O, 2(n - 1) + k, ...)."""
        if x.shape[-1] == 1 and x.device.type == "cpu":
            return self._from_one_pixel(x)
        if not _by_hand(x):
            return super().forward(x)
        if x.shape[-1] ** 2 <= FEW:
            return self._from_few_pixels(x)
        return self._from_many_pixels(x)

    def _from_one_pixel(self, x: Tensor) -> Tensor:
        size = self.kernel_size[0]
        weight = self.weight.to(x.dtype)
        y: Tensor = (x.flatten(1) @ weight.flatten(1)).unflatten(1, (self.out_channels, size, size))
        return (y + self.bias.to(y.dtype)[:, None, None]).contiguous(memory_format=torch.channels_last)

    def _from_few_pixels(self, x: Tensor) -> Tensor:
        size = self.kernel_size[0]
        weight = self.weight.to(x.dtype).permute(0, 2, 3, 1).flatten(1)
        windows = (x.permute(0, 2, 3, 1) @ weight).unflatten(3, (size, size, self.out_channels))
        y: Tensor = _Add.apply(windows)  # type: ignore[no-untyped-call]
        return (y + self.bias.to(y.dtype)).permute(0, 3, 1, 2)

    def _from_many_pixels(self, x: Tensor) -> Tensor:
        """One convolution for each parity of row and column, all in one call.

        Along one side, output 2p + r (r = 0, 1) is the sum over j of weight[2j + r] x[p - j]. A window reaches from
        p - (taps - 1) to p, and p up to taps - 1 beyond the last input: taps - 1 zeros on either side, of which the
        convolution itself adds one.
        """
        odd = self.kernel_size[0] % 2
        taps = -(-self.kernel_size[0] // 2)  # of each parity
        weight = F.pad(self.weight.to(x.dtype), (0, odd, 0, odd)).unflatten(3, (taps, 2)).unflatten(2, (taps, 2))
        weight = weight.flip(2, 4).permute(3, 5, 1, 0, 2, 4).flatten(0, 2)  # (2 * 2 * O, I, taps, taps)
        # oneDNN has a fast way for a padding of 1, not for more
        y = F.conv2d(F.pad(x, (taps - 2,) * 4), weight, self.bias.repeat(4), padding=1)
        y = y.permute(0, 2, 3, 1).unflatten(3, (2, 2, self.out_channels))
        interleaved: Tensor = y.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return interleaved[..., : interleaved.shape[-2] - odd, : interleaved.shape[-1] - odd]


def _by_hand(x: Tensor) -> bool:
    """Whether ours is the faster way."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


def gather(x: Tensor, kernel: int) -> Tensor:
    """All windows of pictures (N, n, n, C), at a stride of 2: (N, m, m, k, k, C)."""
    rows, side, _, channels = x.shape
    size = (side - kernel) // 2 + 1
    row, down, right, channel = x.stride()
    shape = (rows, size, size, kernel, kernel, channels)
    return x.as_strided(shape, (row, 2 * down, 2 * right, down, right, channel), x.storage_offset()).contiguous()


def add(windows: Tensor, side: int) -> Tensor:
    """The reverse: windows added up where they lie, in pictures (N, side, side, C)."""
    rows, size, _, kernel, _, channels = windows.shape
    y = torch.zeros(rows, side, side, channels, dtype=torch.promote_types(windows.dtype, torch.float32))
    windows = windows.to(y.dtype)
    reach = 2 * size - 1
    for down in range(kernel):
        for right in range(kernel):
            y[:, down : down + reach : 2, right : right + reach : 2] += windows[:, :, :, down, right]
    return y


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int) -> Tensor:
        ctx.side = x.shape[1]
        ctx.dtype = x.dtype
        return gather(x, kernel)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return add(grads[0], ctx.side).to(ctx.dtype), None


class _Add(Function):
    @staticmethod
    def forward(ctx: Any, windows: Tensor) -> Tensor:
        ctx.kernel = windows.shape[3]
        return add(windows, 2 * (windows.shape[1] - 1) + ctx.kernel).to(windows.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return gather(grads[0], ctx.kernel)
