import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import World
from tests.training.test_train import metrics, stop_at
from worldmodels import models
from worldmodels.acting.controller_spec import FILE, load_controller
from worldmodels.core import checkpoint
from worldmodels.core.errors import UserError
from worldmodels.data.rollouts import Rollouts
from worldmodels.dreams.dream import Dream
from worldmodels.settings.command_line import parse
from worldmodels.settings.commands import EvaluateConfig
from worldmodels.settings.stages import ControllerConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.train_controller import train_controller

TIMES = ("seconds", "steps_per_second")


def link(world: World, folder: Path) -> Path:
    """A run with the tiny world's V and M, and no controllers."""
    for stage in ("vision", "memory"):
        (folder / stage).symlink_to(world.run / stage)
    return folder


def history(folder: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in metrics(folder)]


@pytest.fixture(scope="module")
def evolved(world: World) -> ControllerConfig:
    config = world.controller(tau=(1.15,))
    train_controller(config)
    return config


@pytest.mark.parametrize("dream", [True, False])
def test_resume_equals_never_having_stopped(
    world: World, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, dream: bool
) -> None:
    folders = []
    for stops in (False, True):
        steps = 30 if dream else 220  # long enough that controllers differ
        config = world.controller(run=link(world, tmp_path_factory.mktemp("run")), dream=dream, max_steps=steps)
        if stops:
            stop_at(2, monkeypatch)
            with pytest.raises(KeyboardInterrupt):
                train_controller(config)
            monkeypatch.undo()
        train_controller(config)
        folders.append(config.folder)
    straight, resumed = (checkpoint.load(folder / FILE, "controller")["params"] for folder in folders)
    assert np.array_equal(straight, resumed) and history(folders[0]) == history(folders[1])
    assert any(line["fitness_std"] > 0 for line in history(folders[0]))  # else wrong seeds would not be noticed


def test_more_generations_go_on_where_fewer_ended(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The test of a generation that was the last one then, and is none now, chooses nothing."""
    runs = [link(world, tmp_path_factory.mktemp("run")) for _ in range(2)]
    for run, generations in ((runs[0], 6), (runs[1], 3), (runs[1], 6)):
        train_controller(world.controller(run=run, generations=generations, test_every=4))
    straight, resumed = (run / "controller/tau1.15" for run in runs)
    params, about = zip(*(load_controller(folder)[1:] for folder in (straight, resumed)), strict=True)
    assert np.array_equal(*params) and about[0]["generation"] == about[1]["generation"]
    shown = history(resumed)
    assert "test_mean" in shown[2] and len({line["fitness_mean"] for line in shown}) > 3
    shown[2] = {name: value for name, value in shown[2].items() if not name.startswith(("test_", "real_"))}
    assert shown == history(straight)


def test_what_people_look_at_is_there(evolved: ControllerConfig, capsys: pytest.CaptureFixture) -> None:
    assert evolved.folder.name == "tau1.15"
    for name, magic in (("fitness.png", b"PNG"), ("reality.mp4", b"ftyp"), ("dream.mp4", b"ftyp")):
        assert magic in (evolved.folder / name).read_bytes()[:12]
    assert list((evolved.folder / "tensorboard").glob("events.*"))
    tested = [line for line in history(evolved.folder) if "test_mean" in line]
    assert [line["step"] for line in tested] == [2, 3] and all("real_mean" in line for line in tested)


def test_evaluate_tells_mean_spread_and_baselines(evolved: ControllerConfig, capsys: pytest.CaptureFixture) -> None:
    scores = evaluate(EvaluateConfig(run=evolved.run, episodes=3, dream=True, workers=0))
    printed = capsys.readouterr().out
    for name in (
        "stay still",
        "random, in the dream",
        "sweep",
        "in the dream, τ 1.15",
        "in the real doom",
        "scores.png",
    ):
        assert name in printed
    assert len(scores) == 8 and all(score.n == 3 for score in scores.values())


def test_a_sweep_makes_one_controller_per_temperature_and_a_plot(world: World, tmp_path: Path) -> None:
    train_controller(world.controller(run=link(world, tmp_path), tau=(0.5, 1.3), generations=1, real_episodes=0))
    assert sorted(p.name for p in (tmp_path / "controller").iterdir()) == [
        "sweep.json",
        "sweep.png",
        "tau0.5",
        "tau1.3",
    ]
    with pytest.raises(UserError, match=r"holds several controllers; give one of: .*tau0\.5.*tau1\.3"):
        load_controller(tmp_path)
    assert load_controller(tmp_path / "controller/tau1.3")[2]["tau"] == 1.3


def test_sampled_ends_are_kept_with_the_controller(world: World, tmp_path: Path, monkeypatch) -> None:
    config = world.controller(run=link(world, tmp_path), sample_end=True, generations=1)
    train_controller(config)
    seen: list[bool] = []
    original = Dream.__init__

    def spying(self: Dream, model: Any, tau: float = 1.0, sample_end: bool = False, *more: Any) -> None:
        seen.append(sample_end)
        original(self, model, tau, sample_end, *more)

    monkeypatch.setattr(Dream, "__init__", spying)
    evaluate(EvaluateConfig(run=tmp_path, episodes=2, dream=True, workers=0, baselines=False, video=False))
    assert seen == [True]


def test_v_and_m_of_another_env_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was trained in doom, not in carracing"):
        train_controller(world.controller(run=link(world, tmp_path), env="carracing"))


def test_the_papers_ablations(world: World, tmp_path: Path) -> None:
    run = link(world, tmp_path)
    for name, units, count in (("z", 0, 9), ("z-40", 40, 401)):
        common = {"inputs": ("z",), "bias": True, "generations": 1, "name": name}
        train_controller(world.controller(run=run, hidden_size=units, **common))
        assert len(load_controller(run / "controller" / name)[1]) == count


def test_evolution_begins_where_another_ended(evolved: ControllerConfig, world: World, tmp_path: Path) -> None:
    run = link(world, tmp_path)
    begun = load_controller(evolved.folder)[1]
    tiny = {"run": run, "generations": 1, "sigma0": 1e-9, "dream": False, "max_steps": 20}
    train_controller(world.controller(name="on", start_from=evolved.folder, **tiny))
    assert load_controller(run / "controller" / "on")[1] == pytest.approx(begun, abs=1e-6)
    assert np.abs(begun).max() > 0.01
    with pytest.raises(UserError, match="has --inputs z c h; give that, too"):
        train_controller(world.controller(name="z", start_from=evolved.folder, inputs=("z",), **tiny))
    with pytest.raises(UserError, match=r"--start-from .*vision holds no controller"):
        train_controller(world.controller(name="none", start_from=run / "vision", **tiny))


def test_of_several_it_begins_with_that_which_did_best_really(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = link(world, tmp_path)
    data = tmp_path / "data"
    tiny: dict = {"run": run, "data": data, "generations": 1, "dream": False, "max_steps": 8, "final_episodes": 2}
    for seed, name in enumerate(("a", "b", "idle")):
        train_controller(world.controller(name=name, seed=seed, **tiny))
    short, long, idle = (run / "controller" / name for name in ("a", "b", "idle"))
    again = {**tiny, "sigma0": 1e-9, "start_from": short}
    played = dataclasses.replace(world.collect, data=data, episodes=2, shard_size=2)
    collect(dataclasses.replace(played, policy=str(short), max_steps=6))
    with pytest.raises(UserError, match=r"--or-from: none of these controllers has played an episode in .*rollouts"):
        train_controller(world.controller(name="none", **{**again, "start_from": idle, "or_from": (long,)}))
    collect(dataclasses.replace(played, policy=str(long), max_steps=9))  # who survives longer is paid more
    capsys.readouterr()
    train_controller(world.controller(name="best", or_from=(idle, long), **again))
    assert f"C begins with {long}: 9.0 in the episodes that it played, the best of 2" in capsys.readouterr().out
    found, wanted, other = (load_controller(run / "controller" / name)[1] for name in ("best", "b", "a"))
    assert found == pytest.approx(wanted, abs=1e-6) and np.abs(wanted - other).max() > 1e-3


def test_a_preset_of_dreams_means_nothing_really() -> None:
    config = parse(ControllerConfig, ["--env", "carracing", "--run", "x"])
    assert config.short_dreams == 0 and not {"real_episodes", "horizon"} & {*config.identity()}
    assert parse(ControllerConfig, ["--env", "carracing", "--run", "x", "--dream"]).short_dreams == 60


def test_a_controllers_episodes_are_added_to_what_is_there(
    evolved: ControllerConfig, world: World, tmp_path: Path
) -> None:
    first = dataclasses.replace(world.collect, data=tmp_path, episodes=4, max_steps=20)
    collect(first)
    collect(dataclasses.replace(first, policy=str(evolved.folder), episodes=3))
    rollouts = Rollouts(tmp_path / "rollouts", "doom")
    policies = [shard.attributes["policy"] for shard in rollouts.shards]
    assert rollouts.num_episodes == 7 and {p.split("-")[0] for p in policies} == {"held", "controller"}


def test_a_controller_of_another_model_is_refused(evolved: ControllerConfig, world: World, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(world.run / "vision", tmp_path / "vision")
    shutil.copytree(world.run / "memory", tmp_path / "memory")
    shutil.copytree(evolved.folder, tmp_path / "controller/tau1.15")
    load_controller(tmp_path)
    memory, extra = models.load_module(tmp_path / "memory", "memory")
    memory.head.bias.data += 1
    extra = {k: v for k, v in extra.items() if k not in ("family", "config", "kind")}
    models.save_module(memory, tmp_path / "memory", "memory", **extra)
    with pytest.raises(UserError, match="evolved for another V or M"):
        load_controller(tmp_path)


def test_inputs_that_the_model_lacks_and_runs_without_controllers_are_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--inputs proj is not among this model's features: z, h, c"):
        train_controller(world.controller(run=link(world, tmp_path), inputs=("z", "proj")))
    with pytest.raises(UserError, match=r"holds no controller; run pipelines/04_train_controller\.py"):
        load_controller(tmp_path / "vision")


def test_the_run_folder_tells_what_was_asked(evolved: ControllerConfig) -> None:
    config = json.loads((evolved.folder / "config.json").read_text())
    assert config["tau"] == [1.15] and config["pop_size"] == 4 and config["inputs"] == ["z", "c", "h"]
