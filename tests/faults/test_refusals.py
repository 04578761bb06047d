"""What is refused leaves nothing behind: no folder, no file that was not there before."""

import dataclasses
from pathlib import Path

import pytest

from tests.conftest import World
from worldmodels.core.errors import UserError
from worldmodels.stages.collect import collect
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_symlink()}


def test_a_collection_that_cannot_begin_or_end_leaves_no_folder(world: World, tmp_path: Path) -> None:
    here = dataclasses.replace(world.collect, data=tmp_path / "a/data")
    for wrong, said in (
        ({"env": "dooom"}, "--env dooom is unknown"),
        ({"policy": "randm"}, "--policy randm is neither"),
        ({"policy": str(tmp_path)}, f"--policy {tmp_path} holds no controller"),
        ({"distractor": "video"}, "--distractor video needs --distractor-videos DIR"),
    ):
        with pytest.raises(UserError, match=said):
            collect(dataclasses.replace(here, **wrong))
        assert not everything(tmp_path)


def test_a_training_that_is_refused_leaves_no_folder(world: World, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/vision").symlink_to(world.run / "vision")
    before = everything(tmp_path), everything(world.data)
    vision = dataclasses.replace(world.vision, run=tmp_path / "b/run")
    for wrong, said in (
        ({"batch_size": 50_000}, "--batch-size 50000 is more than the"),
        ({"device": "gpu"}, "--device gpu is unknown"),
        ({"data": tmp_path / "c/data"}, "holds no rollouts"),
        ({"learning_rate": 1e30, "final_learning_rate": 1e30, "save_every": 9}, "the loss is|the gradient is not"),
    ):
        with pytest.raises(UserError, match=said):
            train_vision(dataclasses.replace(vision, **wrong))
        assert (everything(tmp_path), everything(world.data)) == before
    memory = dataclasses.replace(world.memory, run=tmp_path / "run", learning_rate=1e30, final_learning_rate=1e30)
    with pytest.raises(UserError, match=r"the loss is|the gradient is not"):
        train_memory(dataclasses.replace(memory, save_every=9))
    assert (everything(tmp_path), everything(world.data)) == before


def test_an_evolution_that_is_refused_leaves_no_folder(world: World) -> None:
    before = everything(world.run)
    for wrong, said in (
        ({"inputs": ("proj",)}, "--inputs proj is not among"),
        ({"device": "gpu"}, "--device gpu is unknown"),
    ):
        with pytest.raises(UserError, match=said):
            train_controller(world.controller(name="refused", **wrong))
        assert everything(world.run) == before
