"""A run that is handed on acts like the one it was made from, in half the space, and its card says how well."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import World
from tests.stages.test_train_controller import link
from worldmodels import models
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core.errors import UserError
from worldmodels.settings.commands import PackConfig
from worldmodels.stages.pack import CARD, pack
from worldmodels.stages.train_controller import train_controller


@pytest.fixture(scope="module")
def packed(world: World, tmp_path_factory: pytest.TempPathFactory) -> PackConfig:
    run = link(world, tmp_path_factory.mktemp("run"))
    train_controller(world.controller(run=run, tau=(1.15,), generations=1))
    config = PackConfig(run=run, out=run / "packed", episodes=2, workers=0)
    pack(config)
    return config


def test_weights_are_those_of_the_run_to_half_precision(packed: PackConfig) -> None:
    for kind in ("vision", "memory"):
        whole, half = (models.load_module(run / kind, kind)[0].state_dict() for run in (packed.run, packed.out))
        assert {name: value.dtype for name, value in whole.items()} == {
            name: value.dtype for name, value in half.items()
        }
        assert all(torch.equal(half[name], value.half().to(value.dtype)) for name, value in whole.items())
    sizes = [(run / "vision" / models.FILE).stat().st_size for run in (packed.run, packed.out)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.05)


def test_it_is_a_run_like_any_other(packed: PackConfig) -> None:
    spec, params, _ = load_controller(packed.out)
    assert spec.run == packed.out.resolve()
    assert np.array_equal(params, load_controller(packed.run)[1])
    assert models.load(packed.out).moments


def test_the_card_tells_scores_and_settings(packed: PackConfig) -> None:
    card = (packed.out / CARD).read_text()
    for said in ("of doom", "our controller in the real doom", "our controller in the dream", "kl_floor 0.5", "| 2 |"):
        assert said in card
    assert str(packed.run) not in card.replace(str(packed.out), "")  # whose folders are nobody's business


def test_what_was_packed_can_be_packed_again(packed: PackConfig, tmp_path: Path) -> None:
    """It notes no settings, as its card alone had them: that is said, and hours of scoring are not lost over it."""
    again = PackConfig(run=packed.out, out=tmp_path / "again", episodes=2, workers=0)
    pack(again)
    assert (again.out / CARD).read_text().count("nothing is noted here") == 3
    assert np.array_equal(load_controller(again.out)[1], load_controller(packed.run)[1])


def test_what_is_something_else_is_not_overwritten(packed: PackConfig, tmp_path: Path) -> None:
    pack(packed)  # its own folder is
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else than a packed run"):
        pack(PackConfig(run=packed.run, out=tmp_path, episodes=2, workers=0))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match="does not exist"):
        pack(PackConfig(run=tmp_path, out=tmp_path / "new", episodes=2, workers=0))
