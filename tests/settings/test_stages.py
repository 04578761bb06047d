import ast
import dataclasses
import re
from pathlib import Path

import pytest

import worldmodels
from worldmodels.core.errors import UserError
from worldmodels.settings.command_line import parse
from worldmodels.settings.commands import EvaluateConfig, ExportConfig, PlayConfig, ProbeConfig
from worldmodels.settings.flags import OF_STAGE_4, about_all, flag, names_of
from worldmodels.settings.helptext import help_of
from worldmodels.settings.models import OURS
from worldmodels.settings.presets import PRESET_NAMES, usual_steps
from worldmodels.settings.shared import plain
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig, VisionConfig

PACKAGE = Path(worldmodels.__file__).parent
STAGES = [CollectConfig, VisionConfig, MemoryConfig, ControllerConfig]
KINDS = [*STAGES, EvaluateConfig, ProbeConfig, PlayConfig, ExportConfig, *(model.settings for model in OURS.values())]


def test_the_run_to_play_may_be_typed_without_its_flag() -> None:
    assert parse(PlayConfig, ["runs/x", "--port", "9000"]) == PlayConfig(run=Path("runs/x"), port=9000)
    assert parse(PlayConfig, ["--run", "runs/x"]).run == Path("runs/x")
    assert parse(PlayConfig, []).run == Path("pretrained/doom")
    with pytest.raises(UserError, match="y is one too many: 1 may stand here without a flag"):
        parse(PlayConfig, ["x", "y"])
    with pytest.raises(UserError, match="x is no flag"):
        parse(EvaluateConfig, ["x"])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("env", ["doom", "carracing", "dmc:walker-walk", "my_package:Mine-v0"])
def test_every_preset_of_every_stage_can_be_parsed(
    stage: type, preset: str, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    config = parse(stage, ["--env", env, "--preset", preset])
    assert config.env == env and config.preset == preset and config.run.parts[0] == "runs"


def test_paper_presets_hold_the_papers_numbers() -> None:
    doom = parse(MemoryConfig, ["--env", "doom", "--preset", "paper"])
    assert (doom.model.hidden_size, doom.model.mixtures, doom.steps, doom.batch_size) == (512, 5, 24_400, 100)
    m = doom.model
    assert (m.restart_input, m.reward, m.termination_weight, doom.clip) == (True, "alive", 10.0, 1.0)
    car = parse(ControllerConfig, ["--env", "carracing", "--preset", "paper"])
    assert (car.action_repeat, car.max_steps) == (1, 1000)
    assert parse(ControllerConfig, ["--env", "carracing"]).max_steps == 250
    assert [usual_steps(CollectConfig, "carracing", "laptop", repeat) for repeat in (1, 4, 2000)] == [1000, 250, 1]
    scaled = [parse(CollectConfig, ["--env", "carracing", "--action-repeat", repeat]).patience for repeat in "148"]
    assert scaled == [48, 12, 6]
    words = ["--env", "carracing", "--preset", "paper", "--action-repeat", "2"]
    assert parse(ControllerConfig, words).max_steps == 500
    car = parse(MemoryConfig, ["--env", "carracing", "--preset", "paper"])
    assert (car.model.hidden_size, car.steps, car.model.reward, car.model.termination) == (256, 4000, "none", False)
    for env, code in (("doom", 64), ("carracing", 32)):
        vision = parse(VisionConfig, ["--env", env, "--preset", "paper"])
        assert (vision.model.code_size, vision.model.kl_floor) == (code, 0.5)
        assert (vision.batch_size, vision.learning_rate) == (100, 1e-4)
        c = parse(ControllerConfig, ["--env", env, "--preset", "paper"])
        assert (c.pop_size, c.episodes, c.sigma0, c.generations, c.test_episodes) == (64, 16, 0.1, 1800, 1024)
        assert parse(CollectConfig, ["--env", env, "--preset", "paper"]).episodes == 10_000


def test_robust_presets_hold_hrssms_numbers() -> None:
    paper = ["--env", "dmc:walker-walk", "--preset", "paper"]
    v = parse(VisionConfig, [*paper, "--vision", "hrssm"])
    o = v.model
    assert (o.depth, o.code_size, o.hidden_size, o.groups, o.classes, o.units) == (32, 0, 512, 32, 32, 512)
    assert (v.batch_size, o.sequence_length, v.learning_rate, v.final_learning_rate) == (16, 64, 1e-4, 1e-4)
    assert (v.max_norm, o.mask_ratio, o.losses, v.steps, v.action_repeat) == (1000, 0.5, "paper", 250_000, 2)
    m = parse(MemoryConfig, [*paper, "--memory", "rssm"])
    assert (m.model.hidden_size, m.model.groups, m.model.classes, m.max_norm) == (512, 32, 32, 1000)
    assert v.precision == m.precision == "fp32"
    assert parse(VisionConfig, ["--env", "dmc:walker-walk"]).vision == "vae"


def test_a_moving_background_has_folders_of_its_own() -> None:
    config = parse(CollectConfig, ["--env", "dmc:walker-walk", "--distractor", "video", "--distractor-videos", "clips"])
    assert str(config.data) == "data/walker-walk-video" and str(config.run) == "runs/walker-walk-video"
    assert config.spec.label == "dmc:walker-walk x2 + video" and config.spec.videos.endswith("/clips")
    words = "--env dmc:walker-walk --distractor dcs --dcs-intensity hard --dcs-parts colour camera --dcs-static"
    config = parse(CollectConfig, words.split())
    assert config.spec.label == "dmc:walker-walk x2 + dcs hard camera colour static"
    assert str(config.data) == "data/walker-walk-dcs-hard-camera-colour-static"
    assert config.dcs_parts == ("camera", "colour")
    steps = [parse(CollectConfig, ["--env", "dmc:walker-walk", "--action-repeat", n]).max_steps for n in "124"]
    assert steps == [1000, 500, 250] and parse(CollectConfig, ["--env", "dmc:walker-walk"]).max_steps == 500
    assert not parse(VisionConfig, ["--no-mask", "--vision", "hrssm"]).model.mask
    assert not parse(VisionConfig, ["--no-bisimulation", "--vision", "hrssm"]).model.bisimulation


def test_an_action_repeat_has_folders_of_its_own_and_former_ones_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--env", "dmc:walker-walk", "--action-repeat", "4"]
    config = parse(VisionConfig, words)
    assert (str(config.run), str(config.data)) == ("runs/walker-walk-x4", "data/walker-walk-x4")
    assert str(parse(VisionConfig, [*words[:3], "2"]).run) == "runs/walker-walk" and not capsys.readouterr().err
    (tmp_path / "runs/walker-walk").mkdir(parents=True)
    parse(VisionConfig, words)
    note = "note: --run is runs/walker-walk-x4 by default; earlier versions took runs/walker-walk: give that to go on"
    assert capsys.readouterr().err.startswith(note)
    assert str(parse(VisionConfig, [*words, "--run", "runs/walker-walk"]).run) == "runs/walker-walk"
    (tmp_path / "runs/walker-walk-x4").mkdir()
    parse(VisionConfig, words)
    assert not capsys.readouterr().err
    colours = parse(CollectConfig, ["--distractor", "noise", "--distractor-colour"])
    assert str(colours.data) == "data/doom-colour-noise"


def test_a_dot_is_the_folder_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["--run", "."], ["--run=./"]):
        assert parse(VisionConfig, words).run == tmp_path
    assert parse(EvaluateConfig, ["--run", "."]).run == Path()


def test_of_a_flag_that_is_given_twice_the_last_counts() -> None:
    words = "--env carracing --dream --tau 2 3 --fresh --no-fresh --pop-size 5 --pop-size=6 --env doom"
    config = parse(ControllerConfig, words.split())
    assert (config.env, config.tau, config.fresh, config.pop_size) == ("doom", (2.0, 3.0), False, 6)
    assert config.max_steps == 2100 and config.run == Path("runs/doom")


def test_a_run_is_known_by_what_it_computes_and_not_by_where() -> None:
    free = {"workers", "device", "fresh", "dry_run", "run", "data", "preset", "distractor_videos", "plugin"}
    own = {
        CollectConfig: {"also", "episodes", "ray", "from_", "keys", "scale_actions"},
        VisionConfig: {"save_every"},
        MemoryConfig: {"save_every", "real_episodes"},
        ControllerConfig: {"generations", "deadline", "final_episodes", "name", "ray"},
    }
    for kind, more in own.items():
        config = parse(kind, [])
        assert {*plain(config)} - {*config.identity()} == {*plain(config)} & (free | more)


def test_what_evolves_nothing_is_not_known_by_how_it_would_evolve() -> None:
    words = ["--dream", "--learner", "actor-critic"]
    tiny, laptop = (parse(ControllerConfig, [*words, "--preset", preset]) for preset in ("tiny", "laptop"))
    assert tiny.pop_size != laptop.pop_size and not {"pop_size", "sigma0", "bias"} & {*plain(tiny)}
    assert {"imagine", "starts", "lambda_"} <= {*tiny.identity()}
    assert not {"updates", "save_every", "pop_size"} & {*tiny.identity()}
    assert {"pop_size", "sigma0", "bias"} <= {*plain(parse(ControllerConfig, ["--dream"]))}


def test_flags_override_presets() -> None:
    config = parse(ControllerConfig, ["--preset", "tiny", "--dream", "--tau", "0.5", "1.0", "--pop-size", "10"])
    assert config.dream and config.tau == (0.5, 1.0) and config.pop_size == 10 and config.generations == 40
    config = parse(ControllerConfig, ["--inputs", "h", "surprise"])  # of whatever parts a model has
    assert config.inputs == ("h", "surprise")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--episods", "3"], "--episods is not a flag of this command; did you mean --episodes?"),
        (["--episodes", "many"], "--episodes"),
        (["--preset", "tinny"], "--preset tinny is unknown; did you mean tiny?"),
        (["--episodes", "-3"], "--episodes -3 makes no sense; give more than 0"),
        (["--test-every", "0"], "--test-every 0 makes no sense"),
        (["--dream", "--tau", "nan"], "--tau nan makes no sense"),
        (["--workers", "-1"], "--workers -1 makes no sense; give 0 or more"),
        (["--generations"], "--generations"),
        (["--dream", "--tau", "0"], "--tau 0 makes no sense"),
        (["--tau", "1.15"], "--tau 1.15 is a temperature of dreams; add --dream"),
        (["--dream", "--tau", "1", "2", "--name", "x"], "leave out --name"),
        (["--pop-size", "2"], "--pop-size 2 is too small"),
        (["--distractor", "vidio"], "--distractor"),
        (["--distractor-colour"], "--distractor-colour colours a moving background; add --distractor"),
        (
            ["--distractor", "noise", "--distractor-videos", "x"],
            "--distractor-videos holds clips for --distractor video",
        ),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(argv: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(ControllerConfig, argv)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stage", "argv", "message"),
    [
        (VisionConfig, ["--mask-ratio", "0.3"], "--mask-ratio does nothing without --vision hrssm"),
        (VisionConfig, ["--no-mask"], "--no-mask does nothing without --vision hrssm"),
        (VisionConfig, ["--vision", "hrssm", "--kl-floor=1"], "--kl-floor does nothing without --vision vae"),
        (MemoryConfig, ["--units", "64"], "--units does nothing without --memory rssm"),
        (MemoryConfig, ["--memory", "rssm", "--mixtures", "3"], "--mixtures does nothing without --memory mdnrnn"),
        (ControllerConfig, ["--sample-end"], "--sample-end does nothing without --dream"),
        (ControllerConfig, ["--name", "a/b"], "--name a/b is to name one folder"),
        (ControllerConfig, ["--name", ".."], "--name .. is to name one folder"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(stage: type, argv: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(stage, argv)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_a_flag_asks_for_is_a_flag() -> None:
    for kind in KINDS:
        for name, about in about_all(kind).items():
            if about.only and about.only.add:  # else something is to be left out
                asked = re.findall(r"--[a-z-]+", about.only.add)
                holder = ControllerConfig if about.only in OF_STAGE_4 else kind  # a learner's own may ask it of stage 4
                assert asked and {*asked} <= {*map(flag, names_of(holder))}, f"{kind.__name__}.{name}"


def test_every_flag_is_read_somewhere_and_explained() -> None:
    """A flag that does nothing is worse than none."""
    read = {
        node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    for kind in KINDS:
        for field in dataclasses.fields(kind):
            assert field.name in read, f"{kind.__name__}.{field.name} is never read"
            assert len(help_of(kind, field.name)) > 9, f"{kind.__name__}.{field.name} is not explained"


def test_values_of_one_flag_stand_after_it_once() -> None:
    with pytest.raises(UserError, match="--tau is given twice; give all its values after one --tau"):
        parse(ControllerConfig, ["--dream", "--tau", "0.5", "--tau", "1.0"])


@pytest.mark.parametrize("repeat", ["4", "+4", "04"])
def test_however_a_number_is_written_episodes_last_as_long(repeat: str) -> None:
    assert parse(CollectConfig, ["--env", "dmc:walker-walk", "--action-repeat", repeat]).max_steps == 250
