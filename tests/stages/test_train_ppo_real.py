"""PPO in the real environment, as users train by it: stage 4 with --learner ppo, and no --dream."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import World
from tests.stages import test_train_ppo
from tests.stages.test_train_controller import history, link
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core.errors import UserError
from worldmodels.settings.models import PPOSettings
from worldmodels.settings.stages import ControllerConfig
from worldmodels.stages.train_controller import train_controller
from worldmodels.workers.local import Workers

TINY = PPOSettings(updates=5, hold=2, units=8, layers=1, batch_size=16, epochs=2, save_every=2)


def asked(world: World, run: Path, **changes: object) -> ControllerConfig:
    common = {"learner": "ppo", "model": TINY, "dream": False, "inputs": (), "test_every": 3, "episodes": 5}
    return world.controller(**(common | {"run": run, "lockstep": 2, "max_steps": 40} | changes))


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> ControllerConfig:
    config = asked(world, link(world, tmp_path_factory.mktemp("run")))
    train_controller(config)
    return config


def test_what_comes_of_it_is_a_controller_like_any_other(trained: ControllerConfig) -> None:
    assert trained.folder.name == "ppo-real"
    for name, magic in (("fitness.png", b"PNG"), ("reality.mp4", b"ftyp")):
        assert magic in (trained.folder / name).read_bytes()[:12]
    assert "trained in the real environment" in (trained.folder / "controller.json").read_text()
    lines = history(trained.folder)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5] and all(line["episode_return"] > 0 for line in lines)
    assert [("test_mean" in line) for line in lines] == [False, False, True, False, True]


def test_results_do_not_depend_on_threads(
    world: World, trained: ControllerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as for two workers, whose tasks are done here, for starting them takes long."""
    monkeypatch.setattr("worldmodels.stages.train_controller.make_workers", lambda *asked: Workers(0))
    config = asked(world, link(world, tmp_path), workers=2)
    train_controller(config)
    (params, about), (again, also) = (load_controller(one.folder)[1:] for one in (trained, config))
    assert np.array_equal(params, again) and about["generation"] == also["generation"]
    assert history(trained.folder) == history(config.folder)


@pytest.mark.slow
def test_results_do_not_depend_on_workers(world: World, trained: ControllerConfig, tmp_path: Path) -> None:
    config = asked(world, link(world, tmp_path), workers=2)
    train_controller(config)
    assert np.array_equal(*(load_controller(one.folder)[1] for one in (trained, config)))
    assert history(trained.folder) == history(config.folder)


def test_what_dreams_taught_goes_on_in_reality(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = link(world, tmp_path)
    settings = dataclasses.replace(TINY, updates=2, rows=4, decisions=3)
    dreamt = test_train_ppo.asked(world, run, model=settings, final_episodes=0, max_steps=40)
    train_controller(dreamt)
    real = asked(world, run, model=dataclasses.replace(settings, updates=1), start_from=dreamt.folder)
    train_controller(real)
    assert "the critic begins anew" not in capsys.readouterr().out
    (spec, before, _), (other, after, _) = load_controller(dreamt.folder), load_controller(real.folder)
    assert spec.actor == other.actor and not np.array_equal(before, after)
    scaled = 2 * (8 + 16 + 16)  # numbers that z, h and c are scaled by
    assert np.array_equal(before[:scaled], after[:scaled])
    train_controller(dataclasses.replace(real, dry_run=True))
    assert "real step, training" in capsys.readouterr().out


def test_a_run_begun_otherwise_is_refused(world: World, trained: ControllerConfig) -> None:
    with pytest.raises(UserError, match="was begun with --episodes 5, not 6"):
        train_controller(dataclasses.replace(trained, episodes=6))


def test_what_only_others_need_tells_no_runs_apart(world: World, trained: ControllerConfig) -> None:
    """A run in dreams, begun when --episodes was CMA-ES's alone, goes on whatever a preset says of it now."""
    dreamt = test_train_ppo.asked(world, trained.run)
    assert "episodes" not in dreamt.identity() and {"rows", "decisions"} <= dreamt.identity().keys()
    assert "episodes" in trained.identity() and not {"rows", "decisions"} & trained.identity().keys()
