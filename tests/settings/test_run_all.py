"""Flags of all stages at once; and settings as flags again."""

from pathlib import Path

import pytest

from worldmodels.commands import COMMANDS
from worldmodels.core.errors import UserError
from worldmodels.settings.as_typed import as_typed
from worldmodels.settings.command_line import parse
from worldmodels.settings.run_all import parse_all
from worldmodels.settings.stages import CollectConfig, VisionConfig


def test_each_stage_is_asked_as_by_its_own_command() -> None:
    line = (
        "--env carracing --preset tiny --seed 3 --run r --data d --workers 1 --vision hrssm --vision.no-mask "
        "--vision.steps 7 --memory.steps=9 --dream --tau 1 2 --pop-size 8 --evaluate.episodes 5"
    )
    plan = parse_all(line.split())
    shared = ["--env", "carracing", "--preset", "tiny", "--seed", "3", "--run", "r", "--data", "d", "--workers", "1"]
    by_hand = {
        "collect": [],
        "vision": ["--vision", "hrssm", "--no-mask", "--steps", "7"],
        "memory": ["--steps", "9"],
        "controller": ["--dream", "--tau", "1", "2", "--pop-size", "8"],
    }
    for stage, words in by_hand.items():
        kind = type(plan.config(stage))
        assert plan.config(stage) == parse(kind, [*shared, *words]), stage
    scored = [part.config for part in plan.parts if part.stage == "evaluate"]
    assert [str(one.run) for one in scored] == ["r/controller/tau1", "r/controller/tau2"]
    assert all(one.dream and one.tau is None and one.episodes == 5 and one.seed == 3 for one in scored)


def test_evaluation_dreams_as_the_controller_does_unless_told_otherwise() -> None:
    assert [parse_all(line.split()).parts[-1].config.dream for line in ("--no-dream", "--dream")] == [False, True]
    assert not parse_all(["--dream", "--evaluate.no-dream"]).parts[-1].config.dream
    planned = parse_all(["--dream", "--plan", "icem", "--plan-horizon", "9"]).parts[-1].config
    assert (planned.plan, planned.plan_horizon, planned.dream) == ("icem", 9, False)
    assert parse_all(["--dream", "--evaluate.plan", "none"]).parts[-1].config.dream


def test_each_further_round_is_a_run_of_its_own_in_the_first_ones_folder() -> None:
    line = "--env carracing --dream --run r --policy uniform --collect.episodes 9 --vision.steps 7 --seed 2"
    anew = ["--no-warm-start", "--round-share", "1", "--no-keep-vision"]
    plan = parse_all([*line.split(), "--rounds", "3", "--round-episodes", "5", *anew])
    assert plan.parts[:4] == parse_all(line.split()).parts[:4]
    assert [part.round for part in plan.parts] == [1] * 4 + [2] * 4 + [3] * 5  # the last one alone is evaluated
    words = "--env carracing --run r/round3 --data data/carracing/round3 --seed 2"
    also = "--policy r/round2/controller/tau1 --also data/carracing/round2 --episodes 5"
    assert plan.config("collect", 3) == parse(CollectConfig, f"{words} {also}".split())
    assert plan.config("vision", 3) == parse(VisionConfig, [*words.split(), "--steps", "7"])
    assert str(plan.config("collect", 2).also) == "data/carracing" and str(plan.run) == "r"
    assert plan.parts[-1].name == "evaluate of round 3"
    assert plan.parts[-1].config.run == Path("r/round3/controller/tau1")
    asked = [parse_all(["--rounds", "2", *words]).config("collect", 2).episodes for words in ([], anew)]
    assert asked == [320, 1600]  # of Doom's
    kept = parse_all([*line.split(), "--rounds", "2", "--keep-vision"])
    assert [part.stage for part in kept.parts[4:]] == ["collect", "memory", "controller", "evaluate"]
    words = ["--rounds", "3", "--no-keep-vision", "--round-share", "0.25", "--learner", "ppo"]
    warm = parse_all([*line.split(), *words])
    asked = [warm.config(stage, 3) for stage in ("vision", "memory", "controller")]
    assert [str(one.start_from) for one in asked] == ["r/round2", "r/round2", "r/round2/controller/ppo-tau1"]
    whole = warm.config("controller").model.updates
    assert (asked[0].steps, asked[1].steps) == (2, round(warm.config("memory").steps / 4))
    assert asked[2].model.updates == whole / 4 and warm.config("controller").start_from == Path()
    goes_on = parse_all(["--vision", "hrssm", "--memory", "rssm", "--rounds", "2"])
    asked = [goes_on.config(stage, 2).start_from for stage in ("vision", "memory")]
    assert asked == [Path("runs/doom"), Path()]
    line = ["--vision", "hrssm", "--memory", "rssm", "--rounds", "2", "--memory.start-from", "x"]
    assert [parse_all(line).config("memory", number).start_from for number in (1, 2)] == [Path("x"), Path()]
    kept = parse_all([*line, "--keep-vision"])  # V learns nothing more, so M goes on from what it was
    assert kept.config("memory", 2).start_from == Path("runs/doom")
    noisy = parse_all(["--rounds", "2", "--noise", "0.3", "--collect.patience", "9"])
    asked = [(noisy.config("collect", number).noise, noisy.config("collect", number).patience) for number in (1, 2)]
    assert asked == [(0.1, 9), (0.3, 9)]


def test_what_drove_by_dreams_alone_is_one_short_line() -> None:
    """The settings of docs/results.md, but for how often it was tested on the way."""
    plan = parse_all(["--env", "carracing", "--dream", "--learner", "ppo", "--rounds", "24"])
    collect, vision, memory, c = (plan.config(stage) for stage in ("collect", "vision", "memory", "controller"))
    assert (collect.episodes, collect.patience, collect.max_steps, collect.action_repeat) == (600, 12, 250, 4)
    assert (vision.steps, memory.steps, c.model.updates, c.model.hold, c.horizon) == (6000, 2000, 200, 1, 60)
    later = [plan.config(stage, 24) for stage in ("collect", "memory", "controller")]
    assert (later[0].episodes, later[1].steps, later[2].model.updates) == (100, 400, 40)
    begins = [str(one.start_from) for one in later[1:]]
    assert begins == ["runs/carracing/round23", "runs/carracing/round23/controller/ppo-tau1"]
    others = [str(one) for one in later[2].or_from]  # or with that of them all which did best
    assert len(others) == 22 and others[0] == "runs/carracing/controller/ppo-tau1"
    words = ["--rounds", "3", "--dream", "--no-from-best"]
    assert parse_all(words).config("controller", 3).or_from == ()
    assert parse_all(words[:-1]).config("controller", 2).or_from == ()  # there is but one
    anew = parse_all([*words[:-1], "--no-warm-start"])
    assert anew.config("controller", 3).or_from == () and anew.config("memory", 3).steps == anew.config("memory").steps
    assert [part.stage for part in plan.parts if part.round == 24] == ["collect", "memory", "controller", "evaluate"]


def test_another_learner_is_asked_for_once() -> None:
    line = "--learner actor-critic --dream --tau 1.2 --updates 7 --controller.batch-size 9 --run r"
    plan = parse_all(line.split())
    controller = plan.config("controller")
    assert (controller.learner, controller.model.updates, controller.model.batch_size) == ("actor-critic", 7, 9)
    assert str(plan.parts[-1].config.run) == "r/controller/actor-critic-tau1.2" and plan.parts[-1].config.dream
    assert plan.config("vision").batch_size != 9


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--learner actor-critic", "--learner actor-critic learns in dreams alone; add --dream"),
        ("--updates 9", "--updates does nothing without --learner actor-critic or --learner ppo; add that"),
        ("--learner actor-critic --dream --pop-size 9", "--pop-size does nothing without --learner cma-es; add that"),
        ("--learner plan-ahead", "--learner plan-ahead is unknown; known: actor-critic, cma-es, ppo"),
        ("--steps 3", "--steps is a flag of several stages; say whose: --vision.steps or --memory.steps"),
        ("--memory.stepz 3", "--memory.stepz is not a flag of memory; did you mean --memory.steps?"),
        ("--controler.episodes 3", "--controler.episodes: there is no stage controler; did you mean controller?"),
        ("--vision.seed 3", "--vision.seed: --seed holds for all stages; give it without vision."),
        ("--evaluate.run x", "--evaluate.run: --run holds for all stages"),
        ("--evaluate.episodes 1", "--evaluate.episodes 1 tells no spread"),
        ("--vision.steps 0", "--vision.steps 0 makes no sense"),
        ("--env carracing --preset paper --dream", "--reward is none, so M's dreams will pay nothing"),
        ("--env carracing --preset paper --plan cem", "nothing can be learnt in them; give --reward head or alive, or"),
        ("--mask-ratio 0.3", "--mask-ratio does nothing without --vision hrssm"),
        ("--tau 1", "--tau 1 is a temperature of dreams; add --dream"),
        ("--rounds 2 --dream --tau 1 1.3", "--tau 1 1.3: of several controllers none is to play for the next round"),
        ("--rounds 2 --round-episodes 1", "--round-episodes 1 are too few"),
        ("--from x", "--from: a run begins with episodes that it plays; give collect --from"),
        ("--dream --dream-dropout 0.1", "--dream-dropout 0.1: M is trained without --dropout; give --dropout, too"),
        ("--dream --dropout 0.1 --dream-dropout 1", "--dream-dropout 1 hides everything; give less than 1"),
        ("--round-episodes 2", "--round-episodes does nothing without --rounds; add that"),
        ("--vision.rounds 2", "--vision.rounds: --rounds holds for all stages; give it without vision."),
        ("doom", "doom is no flag"),
    ],
)
def test_what_no_stage_can_make_sense_of_is_told_as_it_was_typed(flags: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_all(flags.split())
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        "collect",
        "collect --env dmc:walker-walk --distractor stills --distractor-colour --seed 4 --episodes 8",
        "collect --env dmc:walker-walk --action-repeat 4 --run r --data d",
        "collect --env dmc:walker-walk --distractor dcs --dcs-intensity hard --dcs-parts colour camera --dcs-static",
        "train-vision --env dmc:walker-walk --distractor dcs --distractor-videos v",
        "train-vision --preset tiny --vision hrssm --no-mask --losses paper",
        "train-memory --env carracing --preset paper --memory rssm --no-termination",
        "train-controller --dream --tau 0.5 1.3 --no-bias --inputs z h --hidden-size 3 --sample-end",
        "train-controller --env carracing --name x",
        "train-controller --env carracing --learner ppo --dream --hold 1 --updates 9",
        "train-controller --learner actor-critic --dream --lambda 0.9 --updates 9 --actions numbers --inputs h",
        "evaluate --run r --dream --tau 1.3 --no-video",
        "probe --run a b --inputs z",
    ],
)
def test_settings_as_flags_ask_for_the_same(line: str) -> None:
    command, *words = line.split()
    config = COMMANDS[command].read(words)
    assert parse(type(config), as_typed(config)) == config
