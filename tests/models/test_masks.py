import pytest
import torch

from worldmodels.models.masks import BLOCK, GRID, SPARED, cubes, cubes_that_spare_motion


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


def drifting(rows: int, length: int) -> torch.Tensor:
    """Grey sequences (B, T, 3, 64, 64) in which a small bright square goes right, in each at another height."""
    frames = torch.zeros(rows, length, 3, 64, 64)
    for row in range(rows):
        for t in range(length):
            frames[row, t, :, 15 * row + 2 : 15 * row + 6, 3 * t : 3 * t + 4] = 1.0
    return frames


def began(frames: torch.Tensor) -> torch.Tensor:
    """(B, T): 1 where an episode begins, here at the beginning alone."""
    return torch.eye(1, frames.shape[1]).expand(len(frames), -1)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.6])
def test_what_moves_is_spared_and_as_much_is_hidden_as_before(ratio: float) -> None:
    frames = drifting(3, 18)
    visible = cubes_that_spare_motion(frames, began(frames), ratio, torch.Generator().manual_seed(0))
    assert visible.shape == (3, 18, 64, 64) and ((visible == 0) | (visible == 1)).all()
    hidden = torch.stack([(cells(one) == 0).sum((1, 2)) for one in visible])
    assert (hidden == round(ratio * 36)).all()
    assert torch.equal(frames * visible[:, :, None], frames)  # the square is seen throughout
    assert not torch.equal(visible[0], visible[1])  # each sequence has its own
    blind = cubes(18, ratio, 64, torch.Generator().manual_seed(0))
    assert not torch.equal(frames * blind[:, None], frames)


def test_only_where_nothing_else_is_left_is_motion_hidden() -> None:
    frames = torch.rand(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    frames[:, :, :, :, 32:] = 0.5  # nothing moves there
    just = cubes_that_spare_motion(frames, began(frames), (36 - SPARED) / 36, torch.Generator().manual_seed(1))
    grid = torch.stack([cells(one) for one in just])
    assert ((grid == 1).sum((2, 3)) == SPARED).all() and (grid[..., 3:] == 0).all()
    assert (
        cubes_that_spare_motion(frames[:, :1], began(frames)[:, :1], 0.5, torch.Generator()) == 0
    ).float().mean() > 0.4


def test_an_episode_that_begins_is_no_motion() -> None:
    frames = drifting(3, 16)
    frames[:, 6:] += 0.5  # another room
    starts = began(frames).clone()
    starts[:, 6] = 1
    visible = cubes_that_spare_motion(frames, starts, 0.6, torch.Generator().manual_seed(0))
    square = (frames == frames.amax((2, 3, 4), keepdim=True)).all(2)
    assert (visible[square] == 1).all()


def test_where_nothing_moves_all_cells_are_hidden_alike_often() -> None:
    frames = torch.zeros(2000, 4, 1, 64, 64)
    visible = cubes_that_spare_motion(frames, began(frames), 0.5, torch.Generator().manual_seed(0))
    often = torch.stack([cells(one)[0] for one in visible]).mean(0)
    assert torch.allclose(often, torch.full((6, 6), 0.5), atol=0.06)
