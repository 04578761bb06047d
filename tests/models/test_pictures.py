import pytest
import torch
from torch import nn

from worldmodels.models.pictures import Doubling, Halving, PictureDecoder


@pytest.mark.parametrize(("side", "kernel_size"), [(1, 5), (5, 5), (13, 6), (30, 6), (4, 3), (3, 4)])
def test_doubling_is_the_transposed_convolution_of_stride_2(side: int, kernel_size: int) -> None:
    torch.manual_seed(0)
    plain = nn.ConvTranspose2d(3, 4, kernel_size, 2).double()
    ours = Doubling(3, 4, kernel_size).double()
    ours.load_state_dict(plain.state_dict())
    pictures = [torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))] * 2
    pictures = [picture.clone().requires_grad_() for picture in pictures]
    outputs = [layer(picture) for layer, picture in zip((plain, ours), pictures, strict=True)]
    assert outputs[1].shape == outputs[0].shape
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
    upstream = torch.randn(outputs[0].shape, dtype=torch.float64)
    for output in outputs:
        output.backward(upstream)
    torch.testing.assert_close(pictures[1].grad, pictures[0].grad, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [4, 5, 6, 7, 14])
def test_halving_is_the_convolution_of_stride_2_with_gradients_and_without(side: int) -> None:
    torch.manual_seed(0)
    plain, ours = nn.Conv2d(3, 4, 4, 2).double(), Halving(3, 4, 4).double()
    ours.load_state_dict(plain.state_dict())
    picture = torch.randn(2, 3, side, side, dtype=torch.float64)
    expected = plain(picture)
    assert torch.equal(ours(picture), expected)
    for laid_out in (torch.contiguous_format, torch.channels_last):
        with torch.no_grad():
            product = ours.to(memory_format=laid_out)(picture.contiguous(memory_format=laid_out))
        torch.testing.assert_close(product, expected.detach(), rtol=1e-12, atol=1e-12)


def test_the_decoder_gives_pictures_for_any_leading_sizes() -> None:
    decoder = PictureDecoder(7)
    z = torch.randn(2, 3, 7)
    assert decoder(z).shape == (2, 3, 3, 64, 64)
    torch.testing.assert_close(decoder(z)[1, 2], decoder(z[1, 2]))
