import torch

from worldmodels.models.pictures import PictureDecoder


def test_the_decoder_gives_pictures_for_any_leading_sizes() -> None:
    decoder = PictureDecoder(7)
    z = torch.randn(2, 3, 7)
    assert decoder(z).shape == (2, 3, 3, 64, 64)
    torch.testing.assert_close(decoder(z)[1, 2], decoder(z[1, 2]))
