import pytest
import torch
from torch import nn

from worldmodels.models.fast.convolutions import Doubling, Halving

LAYERS = [(Doubling, nn.ConvTranspose2d, side, k) for side, k in [(1, 5), (5, 5), (13, 6), (30, 6), (4, 3), (7, 5)]]
LAYERS += [(Halving, nn.Conv2d, side, k) for side, k in [(4, 4), (6, 4), (7, 4), (14, 4), (16, 4), (9, 3)]]


@pytest.mark.parametrize(("ours", "plain", "side", "kernel_size"), LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_they_are_torchs_convolutions_of_stride_2(
    ours: type, plain: type, side: int, kernel_size: int, layout: torch.memory_format
) -> None:
    """Values and all gradients, in float64; sides of few windows and of many."""
    torch.manual_seed(0)
    expected, layer = plain(3, 4, kernel_size, 2).double(), ours(3, 4, kernel_size).double()
    layer.load_state_dict(expected.state_dict())
    layers = (expected, layer.to(memory_format=layout))
    picture = torch.randn(2, 3, side, side, dtype=torch.float64).contiguous(memory_format=layout)
    pictures = [picture.clone().requires_grad_() for _ in layers]
    outputs = [layer(picture) for layer, picture in zip(layers, pictures, strict=True)]
    assert outputs[1].shape == outputs[0].shape
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    upstream = torch.randn(outputs[0].shape, dtype=torch.float64)
    for output in outputs:
        output.backward(upstream)
    torch.testing.assert_close(pictures[1].grad, pictures[0].grad, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(layer.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)
