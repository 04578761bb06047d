import pytest
import torch

from worldmodels.models.masks import BLOCK, GRID, cubes


def cells(visible: torch.Tensor) -> torch.Tensor:
    """(T, 6, 6): what is seen in the middle of each cell."""
    middle = ((torch.arange(GRID) + 0.5) * visible.shape[1] / GRID).long()
    return visible[:, middle][:, :, middle]


@pytest.mark.parametrize(("ratio", "hidden"), [(0.0, 0), (0.3, 11), (0.5, 18), (0.7, 25)])
def test_each_block_of_four_frames_hides_the_same_share_of_cells(ratio: float, hidden: int) -> None:
    visible = cubes(64, ratio, 64, torch.Generator().manual_seed(0))
    assert visible.shape == (64, 64, 64) and ((visible == 0) | (visible == 1)).all()
    grid = cells(visible)
    assert ((grid == 0).sum((1, 2)) == hidden).all()
    blocks = grid.unflatten(0, (-1, BLOCK))
    assert (blocks == blocks[:, :1]).all()  # alike within a block
    if hidden:
        assert not (blocks[0, 0] == blocks[1, 0]).all()  # anew in the next
        assert (1 - visible).mean() == pytest.approx(hidden / 36, abs=0.02)


def test_cells_are_ten_or_eleven_pixels_wide() -> None:
    visible = cubes(400, 0.5, 64, torch.Generator().manual_seed(0))
    changes = (visible[:, :, 1:] != visible[:, :, :-1]).any((0, 1)).nonzero().ravel() + 1
    widths = torch.diff(torch.tensor([0, *changes.tolist(), 64]))
    assert widths.tolist() == [11, 11, 10, 11, 11, 10]


def test_a_length_that_is_no_multiple_of_four_is_cut() -> None:
    assert cubes(10, 0.5, 64, torch.Generator()).shape == (10, 64, 64)


def test_cells_are_hidden_alike_often() -> None:
    grid = cells(cubes(4 * 3000, 0.5, 64, torch.Generator().manual_seed(1)))
    assert torch.allclose(grid.mean(0), torch.full((6, 6), 0.5), atol=0.05)
