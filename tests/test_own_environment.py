"""An environment of the user's own: examples/own_environment.py. A name in a file runs nothing."""

import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests.conftest import World, make_episode, write_shard
from tests.test_pipelines import ROOT, SIZES, run, start
from worldmodels import commands, models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, load_controller, save_controller
from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.envs.distract import Background, NoiseBackground
from worldmodels.envs.images import ImageEnv
from worldmodels.settings.environments import Environment, register
from worldmodels.settings.envspec import EnvSpec

EXAMPLES = ROOT / "examples"
EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands find the example."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{EXAMPLES}")
    return tmp_path


def test_the_examples_environment_goes_through_all_stages_and_the_probe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(EXAMPLES)
    for name, sizes in SIZES.items():
        extra = " --dream --real-episodes 2" if name == "04_train_controller" else ""
        flags = f"--env own_environment:MyEnv-v0 --preset tiny --workers 1 {sizes}{extra}"
        commands.run(name[3:].replace("_", "-"), flags.split())
    table = capsys.readouterr().out
    assert "evolved in dreams at τ 0.9: real" in table and "walk about" in table and "stand still" in table
    sys.modules.pop("own_environment")
    common = "--run runs/myenv-v0 --plugin own_environment"  # in processes that nobody told of it before
    scores = run(folder, f"evaluate --episodes 2 --no-video --workers 1 {common}")
    assert "in the real own_environment:MyEnv-v0" in scores and "walk about" in scores
    assert "place" in run(folder, f"probe --episodes 8 --workers 0 {common}")


def test_its_record_holds_where_only_the_command_line_names_it(folder: Path) -> None:
    text = run(folder, "01_collect --env own_environment:MyEnv-v0 --help")
    assert re.search(r"--max-steps INT[^-]*\(default: 200\)", re.sub(r"[│\s]+", " ", text))


@pytest.fixture
def evil(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller, a V and rollouts that say that they were made in an environment of a module, which lies where one
    works, and on the path."""
    (tmp_path / "evil_module.py").write_text(EVIL)
    spec, made = EnvSpec("evil_module:Evil-v0"), tmp_path / "run"
    vision, about = models.load_module(world.run / "vision", "vision")
    models.save_module(vision, made / "vision", "vision", env=spec.label, spec=spec.plain(), clips=about["clips"])
    (made / "memory").symlink_to(world.run / "memory")
    acting = ControllerSpec(spec, made, ("z",), 0, False, 10, "fp32")
    score = {"mean": 0.0, "std": 0.0, "ci": 0.0, "n": 2}
    told = {"generation": 1, "tau": None, "sample_end": False, "seed": 0, "trained": score, "real": score}
    save_controller(made / "controller/real" / FILE, acting, np.zeros(vision.code_size), told)
    write_shard(tmp_path / "data/rollouts/0.h5", [make_episode(np.random.default_rng(0), 5)], {"env": spec.label})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    return made / "controller/real"


def told(command: str, capsys: pytest.CaptureFixture) -> str:
    """What a command that fails says."""
    name, *flags = command.split()
    with pytest.raises(SystemExit) as stop:
        commands.run(name, flags)
    assert stop.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate --run run", "run/controller/real names evil_module:Evil-v0, which is code that is not ours"),
        ("probe --run run", "run/vision names evil_module:Evil-v0, which is code that is not ours"),
        ("collect --policy run/controller/real", "run/controller/real was trained in evil_module:Evil-v0, not in doom"),
        ("collect --policy run/controller/real --dry-run", "was trained in evil_module:Evil-v0, not in doom"),
        ("collect --data data", "0.h5 comes from env evil_module:Evil-v0, not doom"),
        ("train-vision --data data", "0.h5 comes from env evil_module:Evil-v0, not doom"),
        ("train-memory --data data --run run", "0.h5 comes from env evil_module:Evil-v0, not doom"),
        ("train-controller --run run --dream", "run was trained in evil_module:Evil-v0, not in doom"),
        ("train-controller --run run --dry-run", "run was trained in evil_module:Evil-v0, not in doom"),
    ],
)
def test_a_name_in_a_file_imports_nothing(
    evil: Path, command: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    said = told(f"{command} --workers 0", capsys)
    assert message in said and len(said.splitlines()) == 1
    assert ("add --plugin evil_module\n" in said) == ("not ours" in message)
    assert not Path("ran").exists() and "evil_module" not in sys.modules


def test_nor_does_it_where_commands_are_run_as_users_run_them(evil: Path) -> None:
    process = start(Path(), "evaluate --run run")  # by `python -m`, which looks for modules where one works
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and error.endswith("add --plugin evil_module\n")
    assert not Path("ran").exists()


def test_nor_for_whoever_reads_the_file_in_code_of_their_own(evil: Path) -> None:
    spec, _, _ = load_controller(evil)
    with pytest.raises(UserError, match=r"evil_module:Evil-v0 is code that is not ours.* add --plugin evil_module"):
        make_env(spec.env)
    assert not Path("ran").exists()
    with pytest.raises(UserError, match=r"--env evil_module:Evil-v0 is unknown"):
        make_env(spec.env.name)  # in its own words
    assert Path("ran").exists()
    sys.modules.pop("evil_module")


@pytest.mark.parametrize("command", ["evaluate --run run", "probe --run run", "train-controller --run run --dream"])
def test_what_is_typed_is_imported(evil: Path, command: str, capsys: pytest.CaptureFixture) -> None:
    assert "code that is not ours" not in told(f"{command} --workers 0 --plugin evil_module", capsys)
    assert Path("ran").exists() and sys.modules.pop("evil_module")


def test_a_record_may_hold_what_makes_it() -> None:
    """An adapter: given what the record says it can be given, where that is asked for."""
    given: dict = {}

    def made(which: str, **options: object) -> gymnasium.Env:
        given.clear()
        given.update(options, which=which)
        return ImageEnv(gymnasium.make("CarRacing-v3", render_mode="rgb_array"))

    register(Environment(name="robots:", make=made, action_repeat=3, distractors=True, tells_truth=True))
    make_env("robots:arm").close()
    assert given == {"which": "arm", "action_repeat": 3}
    make_env(EnvSpec("robots:leg", 1, "noise"), truth=True).close()
    assert isinstance(given.pop("background"), NoiseBackground)
    assert given == {"which": "leg", "action_repeat": 1, "truth": True}
    register(Environment(name="Odd-v0", make=lambda: gymnasium.make("CartPole-v1")))
    with pytest.raises(UserError, match=r"--env Odd-v0: what its record makes shows Box.* needed: uint8"):
        make_env("Odd-v0")


def test_an_environment_by_its_id_is_given_what_its_record_says() -> None:
    gymnasium.register("Behind-v0", Behind)
    register(Environment(name="Behind-v0", action_repeat=2, distractors=True))
    env = make_env(EnvSpec("Behind-v0", 5, "noise"))
    assert env.unwrapped.env.unwrapped.given == (5, True)
    with pytest.raises(UserError, match=r"--env Behind-v0 could not be made.* render_mode, truth, action_repeat"):
        make_env("Behind-v0", truth=True)


class Behind(gymnasium.Env):
    """Of the user's own, in front of a background."""

    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode: str, action_repeat: int, background: Background | None = None) -> None:
        self.given = (action_repeat, background is not None)
