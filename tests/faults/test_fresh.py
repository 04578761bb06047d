"""--fresh that is interrupted anywhere passes off nothing old as new."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.conftest import World
from worldmodels import models
from worldmodels.core.errors import UserError
from worldmodels.stages.train_vision import train_vision
from worldmodels.training.run import CHECKPOINT, OURS, RESULTS, Run


class Killed(BaseException):
    """As kill -9 leaves a folder: what was deleted is gone, the rest is there."""


def interrupted_fresh(folder: Path, config: object, after: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """--fresh that is killed when it has deleted `after` things; False if there were fewer."""
    original, deleted = Path.unlink, []

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.parent == folder and self.exists() and self.name in OURS:
            if len(deleted) == after:
                raise Killed
            deleted.append(self.name)
        original(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    try:
        Run(folder, config, "vision", rollouts="x")  # type: ignore[arg-type]
    except Killed:
        return True
    finally:
        monkeypatch.undo()
    return False


def test_a_kill_within_fresh_leaves_nothing_old_that_counts_as_new(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = dataclasses.replace(world.vision, seed=77)
    for after in range(len(OURS)):
        folder = tmp_path / str(after) / "vision"
        shutil.copytree(world.run / "vision", folder)
        if not interrupted_fresh(folder, dataclasses.replace(asked, fresh=True), after, monkeypatch):
            break
        old = {name for name in (CHECKPOINT, *RESULTS) if (folder / name).exists()}
        try:
            begun = Run(folder, asked, "vision", rollouts="x")
        except UserError as error:
            assert "--fresh" in str(error) and old, after
        else:
            assert begun.rewind() is None and not old, after
    assert after > 4


def test_what_was_learnt_goes_first_and_what_tells_with_which_settings_last() -> None:
    assert OURS[0] == CHECKPOINT and set(OURS[1 : 1 + len(RESULTS)]) == set(RESULTS) and OURS[-1] == "config.json"


def test_a_checkpoint_without_its_config_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run / "vision", tmp_path / "vision")
    (tmp_path / "vision/config.json").unlink()
    before = (tmp_path / "vision" / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match=r"lies there without config\.json.*--fresh starts this stage anew"):
        train_vision(dataclasses.replace(world.vision, run=tmp_path))
    assert (tmp_path / "vision" / CHECKPOINT).read_bytes() == before and not (tmp_path / "vision/config.json").exists()


def test_a_model_of_other_settings_is_not_trained_over_unasked(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run / "vision", tmp_path / "vision")
    (tmp_path / "vision" / CHECKPOINT).unlink()
    with pytest.raises(UserError, match=r"was begun with --seed 0, not 5"):
        train_vision(dataclasses.replace(world.vision, run=tmp_path, seed=5))
    train_vision(dataclasses.replace(world.vision, run=tmp_path))  # the same again
    again, first = (models.load_module(run / "vision", "vision")[0].state_dict() for run in (tmp_path, world.run))
    assert all((again[name] == first[name]).all() for name in first)
