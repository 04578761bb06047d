"""A promise about `kill -9`, at any moment of any stage: nothing complete is lost, and the same command again ends with
the results of one that was never killed, to the bit. With `--fresh` it ends with the new results, never with old ones.

`pytest -m slow tests/faults/test_kills.py -s` kills some 200 times; KILLS=1000 more often.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

KILLS = int(os.environ.get("KILLS", "208"))
IN_A_ROW = 4  # before the command is left in peace and its results are compared
TINY = "--env doom --preset tiny --workers 2"
STAGES = {
    "collect": "--episodes 12 --shard-size 3 --max-steps 60",
    "train-vision": "--steps 12 --batch-size 16 --save-every 2",
    "train-memory": "--steps 12 --batch-size 4 --sequence-length 10 --save-every 2",
    "train-controller": "--dream --generations 6 --pop-size 4 --episodes 2 --max-steps 30 --test-every 2 "
    "--test-episodes 2 --real-episodes 2 --final-episodes 2",
}
OTHER = {  # settings that `--fresh` may come with
    "collect": "--max-steps 50",
    "train-vision": "--learning-rate 2e-3",
    "train-memory": "--learning-rate 2e-3",
    "train-controller": "--sigma0 0.2",
}


def named(stage: str) -> str:
    """A stage's flags as `run` is given them: --vision.steps 12."""
    name = stage.removeprefix("train-")
    return " ".join(f"--{name}.{word[2:]}" if word.startswith("--") else word for word in STAGES[stage].split())


def start(folder: Path, stage: str, extra: str = "") -> subprocess.Popen:
    asked = STAGES.get(stage) or " ".join([*map(named, STAGES), "--evaluate.episodes 2"])
    words = f"{stage} {TINY} {asked} {extra}".split()
    return subprocess.Popen(
        [sys.executable, "-m", "worldmodels", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(folder: Path, stage: str, extra: str = "") -> float:
    """Lets the command end well; the seconds that it took."""
    began = time.monotonic()
    process = start(folder, stage, extra)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return time.monotonic() - began


def killed(folder: Path, stage: str, after: float, extra: str = "") -> bool:
    """Kills the command and all its processes; False if it had ended before."""
    process = start(folder, stage, extra)
    time.sleep(after)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert alive or process.returncode == 0
    return alive


def results(folder: Path, stage: str) -> dict[str, object]:
    """What a stage leaves behind, but for times of day and seconds taken."""
    if stage == "collect":
        return {path.name: path.read_bytes() for path in folder.glob("data/doom/rollouts/*.h5")}
    kind = {"train-vision": "vision", "train-memory": "memory", "train-controller": "controller/tau1.15"}[stage]
    place = folder / "runs/doom" / kind
    found: dict[str, object] = {path.name: contents(path) for path in place.glob("*.safetensors")}
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    clocks = ("time", "seconds", "_per_second")
    found["metrics"] = [{k: v for k, v in line.items() if not k.endswith(clocks)} for line in lines]
    if stage == "train-vision":
        found |= {path.name: path.read_bytes() for path in folder.glob("data/doom/codes/*/*.h5")}
    return found


def contents(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """A checkpoint's header and tensors; what comes first in its file is left to chance."""
    with safe_open(path, "np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def leftovers(folder: Path) -> list[Path]:
    """What was being written when a command was killed."""
    return [path for path in folder.rglob(".*.tmp") if path.is_file()]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, float]]:
    """The folder as it is before a stage, and how long that stage takes: each is run once, without a kill."""
    known: dict[str, tuple[Path, float]] = {}
    names = list(STAGES)

    def before(stage: str) -> tuple[Path, float]:
        if stage not in known:
            folder = tmp_path_factory.mktemp(stage)
            if names.index(stage):
                earlier = names[names.index(stage) - 1]
                shutil.copytree(before(earlier)[0], folder, dirs_exist_ok=True)
                finish(folder, earlier)
            copy = tmp_path_factory.mktemp(f"{stage}-timed")
            shutil.copytree(folder, copy, dirs_exist_ok=True)
            known[stage] = folder, finish(copy, stage)
        return known[stage]

    return before


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", list(STAGES))
def test_a_command_killed_at_any_moment_ends_as_if_it_never_was(
    stages: Callable[[str], tuple[Path, float]], tmp_path: Path, stage: str
) -> None:
    clean, seconds = stages(stage)
    luck = random.Random(stage)
    never = tmp_path / "never"
    shutil.copytree(clean, never)
    finish(never, stage)
    expected = results(never, stage)
    done = 0
    while done < KILLS // len(STAGES) * 3 // 4:
        folder = tmp_path / "killed"
        shutil.copytree(clean, folder)
        for _ in range(IN_A_ROW):
            complete = {path: path.read_bytes() for path in folder.glob("data/doom/rollouts/*.h5")}
            if not killed(folder, stage, luck.uniform(0.2, 1.0) * seconds):
                break
            done += 1
            assert all(path.read_bytes() == content for path, content in complete.items()), "a complete shard was lost"
        finish(folder, stage)
        assert results(folder, stage) == expected
        assert not leftovers(folder)
        shutil.rmtree(folder)
    print(f"{stage}: {done} kills, nothing lost, results equal to the bit")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_stages_in_one_command_killed_at_any_moment_end_as_if_they_never_were(tmp_path: Path) -> None:
    """Only the command itself is killed: what it has started must not outlive it, or it could not go on at once."""
    luck = random.Random("run")
    never = tmp_path / "never"
    never.mkdir()
    seconds = finish(never, "run")
    folder = tmp_path / "killed"
    folder.mkdir()
    done = 0
    while done < KILLS // 16:
        process = start(folder, "run")
        try:
            process.communicate(timeout=luck.uniform(0.05, 0.5) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
        else:
            assert process.returncode == 0
            shutil.rmtree(folder)
            folder.mkdir()
    finish(folder, "run")
    for stage in STAGES:
        assert results(folder, stage) == results(never, stage), stage
    assert not leftovers(folder)
    print(f"run: {done} kills, nothing lost, results equal to the bit")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", list(STAGES))
def test_a_kill_inside_fresh_never_passes_off_old_results_as_new(
    stages: Callable[[str], tuple[Path, float]], tmp_path: Path, stage: str
) -> None:
    clean, seconds = stages(stage)
    luck = random.Random(f"fresh {stage}")
    new = tmp_path / "new"
    shutil.copytree(clean, new)
    finish(new, stage, OTHER[stage])
    old = tmp_path / "old"
    shutil.copytree(clean, old)
    finish(old, stage)
    expected = results(new, stage)
    done = 0
    while done < KILLS // len(STAGES) // 4:
        folder = tmp_path / "killed"
        shutil.copytree(old, folder)
        done += killed(folder, stage, luck.uniform(0.2, 0.9) * seconds, f"{OTHER[stage]} --fresh")
        again = start(folder, stage, OTHER[stage])
        _, error = again.communicate(timeout=240)
        if again.returncode:  # what the kill came before is still there, and is told
            assert "--fresh" in error.splitlines()[-1] and "Traceback" not in error
            finish(folder, stage, f"{OTHER[stage]} --fresh")
        assert results(folder, stage) == expected
        shutil.rmtree(folder)
    print(f"{stage}: {done} kills inside --fresh, no old results passed off as new")
