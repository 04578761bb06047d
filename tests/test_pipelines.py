"""What users run, as they run it: commands, in their own processes, on real environments at tiny size."""

import contextlib
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from tests.conftest import COMMANDS
from worldmodels import commands
from worldmodels.data.rollouts import Rollouts
from worldmodels.settings.flags import default_of, flag, names_of
from worldmodels.settings.helptext import help_of
from worldmodels.settings.models import named

ROOT = Path(__file__).parents[1]
SIZES = {
    "01_collect": "--episodes 6 --shard-size 3 --max-steps 40",
    "02_train_vision": "--steps 4 --batch-size 16 --save-every 2",
    "03_train_memory": "--steps 4 --batch-size 4 --sequence-length 10 --save-every 2",
    "04_train_controller": "--generations 2 --pop-size 4 --episodes 2 --max-steps 30 --test-every 1 --test-episodes 2 "
    "--final-episodes 2",
}


def start(folder: Path, command: str) -> subprocess.Popen:
    words = command.split()
    stage = ROOT / f"pipelines/{words[0]}.py"
    script = [str(stage)] if stage.exists() else ["-m", "worldmodels", words[0]]
    return subprocess.Popen(
        [sys.executable, *script, *words[1:]], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def run(folder: Path, command: str) -> str:
    process = start(folder, command)
    out, error = process.communicate(timeout=280)
    assert process.returncode == 0, error
    return out


def refused(folder: Path, command: str) -> str:
    """The one line by which a command is refused."""
    process = start(folder, command)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in error
    (line,) = error.strip().splitlines()
    return line


def stage(folder: Path, name: str, extra: str) -> str:
    return run(folder, f"{name} --preset tiny --workers 2 {SIZES[name]} {extra}")


class Here:
    """Commands in a folder, through the same door, but one after the other in this process: torch is loaded once."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def run(self, command: str) -> str:
        """What a command says."""
        name, *flags = command.split()
        with contextlib.chdir(self._folder):
            commands.run(name, flags)
        return self._capsys.readouterr().out

    def stage(self, name: str, extra: str) -> str:
        """What a stage says, at tiny size."""
        typed = name[3:].replace("_", "-")
        return self.run(f"{typed} --preset tiny --workers 0 {SIZES[name]} {extra}")


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, capsys)


@pytest.fixture(scope="module")
def doom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the first three stages were run."""
    folder = tmp_path_factory.mktemp("doom")
    for name in list(SIZES)[:3]:
        stage(folder, name, "--env doom")
    return folder


class Made(NamedTuple):
    """A folder where all stages were run, and what they said."""

    folder: Path
    printed: str
    told: str = ""  # on stderr


@pytest.fixture(scope="module")
def by_hand(doom: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("hand") / "all"
    shutil.copytree(doom, folder)
    trained = stage(folder, "04_train_controller", f"--env doom {SHORT}")
    return Made(folder, trained + run(folder, "evaluate --run runs/doom --dream --episodes 4 --workers 2"))


def test_doom_from_rollouts_to_a_score(by_hand: Made) -> None:
    said = by_hand.printed
    assert re.search(r"evolved in dreams at τ 1\.15: real +\d", said) and "left-right sweep" in said
    assert re.search(r"our controller in the real doom +[\d.]+ ± [\d.]+ +± [\d.]+ +4", said)
    (plot, video) = re.findall(r"^(?:plot|video) +(\S+)$", said, re.M)[-2:]
    assert Path(plot).stat().st_size > 1000 and Path(video).stat().st_size > 1000
    assert sorted(p.name for p in by_hand.folder.iterdir()) == ["data", "runs"]  # and nothing else lies about


def test_carracing_from_rollouts_to_a_score(here: Here) -> None:
    for name in list(SIZES)[:3]:
        printed = here.stage(name, "--env carracing")
    assert "reward variance explained" in printed
    table = here.stage("04_train_controller", "--env carracing")
    assert re.search(r"evolved in the real environment: real +-?\d", table)
    assert "τ 1" in here.stage("04_train_controller", "--env carracing --dream --real-episodes 2")


def test_dmc_in_front_of_a_moving_background_from_rollouts_to_a_probe(tmp_path: Path, here: Here) -> None:
    common = "--env dmc:reacher-easy --distractor stills"
    here.stage("01_collect", common)
    assert "held-out bisimulation" in here.stage("02_train_vision", common + " --vision hrssm")
    here.stage("03_train_memory", common + " --memory rssm")
    controller = here.stage("04_train_controller", common + " --dream --real-episodes 2")
    assert "evolved in dreams at τ 1: real" in controller
    table = here.run("probe --run runs/reacher-easy-stills --episodes 8 --max-steps 60 --workers 0")
    assert re.search(r"reacher-easy-stills: h +(-?\d+\.\d{3} ± \d+\.\d{3} +)+-?\d", table)
    assert "to_target" in table and "dmc:reacher-easy x2 + stills" in table
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "runs"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # five commands, on a busy machine
def test_manipulation_from_rollouts_to_a_score(here: Here) -> None:
    for name in list(SIZES)[:3]:
        here.stage(name, "--env dmc:manipulation-reach_duplo")
    dream = "--env dmc:manipulation-reach_duplo --dream --real-episodes 2"
    assert "evolved in dreams at τ 1: real" in here.stage("04_train_controller", dream)
    assert "our controller in the real dmc:manipulation-reach_duplo" in here.run(
        "evaluate --run runs/manipulation-reach_duplo --episodes 2 --workers 0"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)  # five commands, on a busy machine
def test_the_distracting_suite_from_rollouts_to_a_probe(tmp_path: Path, here: Here) -> None:
    for split, count in (("train", 4), ("test", 4)):
        for i in range(count):
            clip = tmp_path / "clips" / split / str(i)
            clip.mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), 20 * i + 100 * (split == "test"), np.uint8)).save(clip / "0.png")
    common = "--env dmc:reacher-easy --distractor dcs"
    here.stage("01_collect", common + " --distractor-videos clips")
    here.stage("02_train_vision", common)
    here.stage("03_train_memory", common)
    table = here.stage("04_train_controller", common + " --dream --real-episodes 2")
    assert "evolved in dreams at τ 1: real" in table
    probed = here.run("probe --run runs/reacher-easy-dcs-easy --episodes 8 --max-steps 60 --workers 0")
    assert "to_target" in probed and "dmc:reacher-easy x2 + dcs easy" in probed


def rollouts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "data/doom/rollouts").glob("*.h5")}


def test_collection_survives_kill_9(doom: Path, tmp_path: Path) -> None:
    command = f"01_collect --env doom --preset tiny --workers 2 {SIZES['01_collect']} --episodes 60"
    process = start(tmp_path, command)
    deadline = time.monotonic() + 60
    while len(rollouts(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # workers too
    process.wait()
    kept = rollouts(tmp_path)
    assert 3 <= len(kept) < 20
    run(tmp_path, command)
    now = rollouts(tmp_path)
    assert len(now) == 20 and all(now[name] == content for name, content in kept.items())
    found = Rollouts(tmp_path / "data/doom/rollouts", "doom")
    assert found.num_episodes == 60
    first = Rollouts(doom / "data/doom/rollouts", "doom")  # two workers, never killed, fewer episodes: the same ones
    for shard, other in zip(first.shards, found.shards, strict=False):
        assert (shard.read("obs") == other.read("obs")).all() and (shard.seeds == other.seeds).all()


def test_evolution_survives_kill_9(doom: Path, tmp_path: Path) -> None:
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/doom").symlink_to(doom / "data/doom")
    (tmp_path / "runs/doom").mkdir()
    for name in ("vision", "memory"):
        (tmp_path / "runs/doom" / name).symlink_to(doom / "runs/doom" / name)
    sizes = SIZES["04_train_controller"] + " --generations 5 --test-every 100 --max-steps 200"
    command = f"04_train_controller --env doom --preset tiny --workers 1 {sizes}"
    process = start(tmp_path, command + " --name killed")
    metrics = tmp_path / "runs/doom/controller/killed/metrics.jsonl"
    deadline = time.monotonic() + 90
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 2 <= metrics.read_text().count("\n") < 5
    run(tmp_path, command + " --name killed")
    run(tmp_path, command + " --name whole")
    texts = [(tmp_path / f"runs/doom/controller/{name}/metrics.jsonl").read_text() for name in ("killed", "whole")]
    strip = [re.sub(r'"(time|seconds|steps_per_second)": [\d.]+', "", text) for text in texts]
    assert strip[0] == strip[1] and len(set(re.findall(r'"fitness_std": ([\d.]+)', strip[0]))) > 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("01_collect --env dooom", "--env dooom is unknown; did you mean doom?"),
        ("01_collect --eppisodes 3", "--eppisodes is not a flag of this command; did you mean --episodes?"),
        ("01_collect --policy randm", "--policy randm is neither a folder nor a policy"),
        ("02_train_vision --env doom", "holds no rollouts; run pipelines/01_collect.py --env doom first"),
        ("04_train_controller --env doom", "vision/model.safetensors does not exist"),
        ("evaluate --run nowhere", "--run nowhere holds no controller; run pipelines/04_train_controller.py first"),
        ("03_train_memory --steps many", "--steps"),
        ("01_collect --env dmc:walker-wolk", "--env dmc:walker-wolk is unknown; did you mean walker-walk?"),
        ("01_collect --env doom --distractor video", "--distractor video needs --distractor-videos DIR"),
        ("02_train_vision --vision hrsm", "--vision"),
        ("probe --run nowhere", "vision/model.safetensors does not exist"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_1(tmp_path: Path, command: str, message: str) -> None:
    process = start(tmp_path, command)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and message in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1 and error.startswith("error: ")


def test_a_damaged_shard_is_named_by_the_stage_that_meets_it(doom: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data/doom/rollouts"
    folder.mkdir(parents=True)
    for path in (doom / "data/doom/rollouts").glob("*.h5"):
        (folder / path.name).write_bytes(path.read_bytes())
    victim = min(folder.glob("*.h5"))
    victim.write_bytes(victim.read_bytes()[:5000])
    for command in ("01_collect --preset tiny " + SIZES["01_collect"], "02_train_vision --preset tiny"):
        process = start(tmp_path, command)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1 and f"{victim.name} is damaged" in error and "Traceback" not in error


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_explains_every_flag(tmp_path: Path, name: str) -> None:
    text = run(tmp_path, f"{name} --help")
    stage = getattr(COMMANDS[name], "MODEL", "")
    kinds = [COMMANDS[name], *([named(default_of(COMMANDS[name], stage), stage).settings] if stage else [])]
    told = set(re.findall(r"^│ (--[a-z0-9-]+)", text, re.M))
    asked = {flag(name) for kind in kinds for name in names_of(kind)} - {"--model"}
    assert told - {"--help"} == asked
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())
    for kind in kinds:
        for name in asked & {flag(name) for name in names_of(kind)}:
            assert help_of(kind, name[2:].replace("-", "_")) in said
    for line, following in itertools.pairwise(text.splitlines()):  # a paragraph goes on as long as there is room
        begun = re.fullmatch(r"│ {4,}(\S.*?) *│", line)
        goes_on = re.fullmatch(r"│ {4,}(\S+).*│", following)
        if begun and goes_on:
            indent = len(line) - len(line[1:].lstrip()) - 1
            assert indent + len(f"{begun[1]} {goes_on[1]}") > len(line) - 4, f"{line}\n{following}"


def seconds(*words: str) -> float:
    """How long a core is busy with a process; a busy machine makes it wait besides."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    "name", ["collect", "train-vision", "train-memory", "train-controller", "evaluate", "probe", "run"]
)
def test_help_and_mistakes_are_answered_at_once(name: str) -> None:
    """Beside what Python itself takes, at the best of several tries."""
    for words in (["--help"], ["--eposides", "3"], ["--workers", "-1", "--run", "x"]):
        tries = (seconds("-m", "worldmodels", name, *words) - seconds("-c", "pass") for _ in range(8))
        assert any(took < 0.5 for took in tries), words


SHORT = "--dream --tau 1.15 --real-episodes 2"
"""What the controller is asked besides; stage 3 has real episodes as well, so `run` is told whose they are."""


def for_run(stage: str) -> str:
    """A stage's flags as `run` is given them: --vision.steps 4."""
    name = stage.split("_")[-1]
    return " ".join(f"--{name}.{word[2:]}" if word.startswith("--") else word for word in SIZES[stage].split())


FLAGS = [SHORT.replace("--real", "--controller.real"), "--evaluate.episodes 4", *map(for_run, SIZES)]
RUN = f"run --env doom --preset tiny --workers 2 {' '.join(FLAGS)}"


def learnt(folder: Path) -> dict[str, object]:
    """All that was collected and learnt, but for times of day and seconds taken."""
    shards = folder.glob("data/doom/*/**/*.h5")
    found: dict[str, object] = {str(path.relative_to(folder)): path.read_bytes() for path in shards}
    for path in folder.glob("runs/doom/**/*.safetensors"):
        with safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
            found[str(path.relative_to(folder))] = file.metadata(), tensors
    for path in folder.glob("runs/doom/**/metrics.jsonl"):
        text = path.read_text()
        found[str(path.relative_to(folder))] = re.sub(r'"(time|seconds|steps_per_second)": [\d.]+', "", text)
    return found


def interrupted(folder: Path, made: str, how: signal.Signals) -> subprocess.Popen:
    """`run`, stopped once there is a file like `made`."""
    process = start(folder, RUN)
    while not any(folder.glob(made)) and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(how)  # to it alone: what it started is its own to see to
    process.communicate(timeout=300)
    return process


@pytest.fixture(scope="module")
def by_run(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """By `run`, which was stopped twice."""
    folder = tmp_path_factory.mktemp("run")
    assert interrupted(folder, "runs/doom/vision/checkpoint.safetensors", signal.SIGINT).returncode == 130
    killed = interrupted(folder, "runs/doom/memory/checkpoint.safetensors", signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL and not any(folder.glob("runs/doom/controller/*"))
    again = start(folder, RUN)
    printed, told = again.communicate(timeout=600)
    assert again.returncode == 0, told
    return Made(folder, printed, told)


@pytest.mark.timeout(1200)  # a dozen processes that load torch, one after the other
def test_run_equals_its_stages_by_hand_however_often_it_is_stopped(by_hand: Made, by_run: Made) -> None:
    told = by_run.told
    assert "3/5 memory" in told and "left" in told and "2/5 vision" not in told  # which was finished
    assert learnt(by_run.folder) == learnt(by_hand.folder) and len(learnt(by_run.folder)) > 10
    table = re.compile(r"^(?:stay still|our controller).*$", re.M)
    scores = set(table.findall(by_hand.printed))
    assert len(scores) > 2 and scores <= set(table.findall(by_run.printed))
    began = time.monotonic()
    assert "all of runs/doom is done already" in run(by_run.folder, RUN)
    assert time.monotonic() - began < 10


ROUNDS = "--rounds 2 --round-episodes 3 --keep-vision --round-share 0.5"


@pytest.mark.timeout(1200)
def test_a_further_round_learns_from_what_the_last_one_played(by_run: Made, tmp_path: Path) -> None:
    shutil.copytree(by_run.folder, tmp_path, dirs_exist_ok=True)
    first = learnt(tmp_path)
    printed = run(tmp_path, f"{RUN} {ROUNDS}")
    found = learnt(tmp_path)
    assert first.items() <= found.items()
    old = {path.name: path for path in (tmp_path / "data/doom/rollouts").glob("*.h5")}
    new = {path.name: path for path in (tmp_path / "data/doom/round2/rollouts").glob("*.h5")}
    (added,) = new.keys() - old.keys()
    assert added.startswith("controller-") and all(new[name].samefile(path) for name, path in old.items())
    assert Rollouts(tmp_path / "data/doom/round2/rollouts", "doom").shards[0].attributes["policy"] == added[:19]
    codes = {path.relative_to(tmp_path / "data/doom"): path for path in (tmp_path / "data/doom/codes").rglob("*.h5")}
    assert codes and all((tmp_path / "data/doom/round2" / name).samefile(path) for name, path in codes.items())
    again = tmp_path / "runs/doom/round2"
    assert (again / "vision").samefile(tmp_path / "runs/doom/vision")
    assert found["runs/doom/memory/model.safetensors"] != found["runs/doom/round2/memory/model.safetensors"]
    page = (again / "report.html").read_text()
    assert "--policy runs/doom/controller/tau1.15" in page and "--also data/doom" in page
    assert "--start-from runs/doom" in page
    assert len(re.findall(r"^our controller in the real doom +[\d.]+ ±", printed, re.M)) == 1  # of the second round
    assert "all of runs/doom is done already" in run(tmp_path, f"{RUN} {ROUNDS}")
    lines = re.findall(r"^([12]) +(\d+) +[\d.]+ ± [\d.]+ \((\d)\) +[\d.]+ ± [\d.]+ \((\d)\)$", printed, re.M)
    learnt_from = [Rollouts(tmp_path / f"data/doom/{place}rollouts", "doom") for place in ("", "round2/")]
    counts = [str(these.num_steps + these.num_episodes) for these in learnt_from]
    assert lines == [("1", counts[0], "2", "4"), ("2", counts[1], "2", "4")]
    assert (tmp_path / "runs/doom/rounds.png").stat().st_size > 1000
    first_page = (tmp_path / "runs/doom/report.html").read_text()
    assert "Rounds of runs/doom" in first_page and "Scores round by round" in first_page
    for given, message in (
        (f"{ROUNDS} --no-warm-start", "runs/doom/round2 was begun with --warm-start; leave out --no-warm-start, or"),
        (
            ROUNDS.replace("0.5", "0.25"),
            "give --round-share and --memory.steps as before, or move runs/doom/round2 away",
        ),
    ):
        assert message in refused(tmp_path, f"{RUN} {given}")
    assert learnt(tmp_path) == found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--evaluate.episodes 1", "--evaluate.episodes 1 tells no spread"),
        ("--inputs z nothing", "--inputs nothing is not among this model's features"),
        ("--env dooom", "--env dooom is unknown; did you mean doom?"),
        ("--controller.start-from nowhere", "--controller.start-from nowhere holds no controller"),
    ],
)
def test_what_any_stage_would_refuse_is_refused_before_the_first(tmp_path: Path, flags: str, message: str) -> None:
    assert message in refused(tmp_path, f"run --preset tiny {flags}")
    assert not any(tmp_path.glob("data/*/rollouts/*"))
