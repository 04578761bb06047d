"""Promises about machines that are not as ours: their terminals, limits, drivers, temporary folders, and Ctrl-C."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import descendants
from worldmodels.envs import make_env

ROOT = Path(__file__).parents[2]
COLLECT = "collect --env doom --preset tiny --episodes 4 --shard-size 2 --max-steps 20"
ENGINES = "for _ in range(9): e = make_env('doom'); e.reset(seed=0); e.close()"
START = f"from worldmodels.envs import make_env; print('up', flush=True)\n{ENGINES}"


def call(folder: Path, words: str, **environment: str) -> subprocess.CompletedProcess:
    """A command of ours in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "worldmodels", *words.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def scratch() -> set[Path]:
    return set(Path("/tmp").glob("worldmodels-doom-*"))


@pytest.mark.parametrize("after", [0.05, 0.3])
def test_ctrl_c_while_dooms_engine_starts_is_ctrl_c(after: float) -> None:
    """It was a segmentation fault in eight of ten."""
    process = subprocess.Popen([sys.executable, "-c", START], stdout=-1, stderr=-1, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in error and process.returncode in (130, -signal.SIGINT)


def test_a_look_at_dooms_spaces_starts_no_engine() -> None:
    before = descendants(os.getpid())
    env = make_env("doom")
    assert env.action_space.shape == (1,) and descendants(os.getpid()) == before
    env.close()


def test_no_scratch_folder_stays_even_by_kill_9() -> None:
    before = scratch()
    code = (
        "from worldmodels.envs import make_env; e = make_env('doom'); e.reset(seed=0); print('up', flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.kill()
    process.wait()
    assert scratch() <= before


@pytest.fixture
def not_executable(tmp_path: Path) -> Iterator[Path]:
    """A folder where nothing may be executed."""
    folder = tmp_path / "noexec"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"only root may mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_doom_runs_where_temporary_folders_are_noexec(tmp_path: Path, not_executable: Path) -> None:
    done = call(tmp_path, f"{COLLECT} --workers 1", TMPDIR=str(not_executable))
    assert done.returncode == 0, done.stderr
    assert not list(not_executable.iterdir())


def test_what_output_cannot_hold_is_spelt_out(tmp_path: Path) -> None:
    done = call(tmp_path, f"{COLLECT} --workers 0", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "mean +- std" in done.stdout and "-----" in done.stdout and done.stdout.isascii()


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    """`worldmodels ... | head -0`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worldmodels", *f"{COLLECT} --workers 0".split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read().decode()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert "Traceback" not in error and "BrokenPipe" not in error
    assert len(list(tmp_path.glob("data/doom/rollouts/*.h5"))) == 2


def test_without_progress_bars_everything_is_collected(tmp_path: Path) -> None:
    done = call(tmp_path, f"{COLLECT} --workers 1", TQDM_DISABLE="1")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("data/doom/rollouts/*.h5"))) == 2


@pytest.mark.parametrize("renderer", ["glfw", "osmesa", "nonsense"])
def test_a_renderer_that_cannot_draw_is_named_with_one_that_can(tmp_path: Path, renderer: str) -> None:
    done = call(tmp_path, "collect --env dmc:walker-walk --episodes 2 --workers 0", MUJOCO_GL=renderer, DISPLAY="")
    if done.returncode == 0:
        pytest.skip(f"{renderer} draws here")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: dmc environments cannot draw") and "Traceback" not in last
    assert f"MUJOCO_GL={renderer}" in last and ("leave MUJOCO_GL unset" in last or "apt-get install" in last)


def test_a_cluster_schedulers_variables_mean_nothing_without_torchrun(tmp_path: Path) -> None:
    for size in ("abc", "4"):
        done = call(tmp_path, f"{COLLECT} --workers 0 --dry-run", WORLD_SIZE=size)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("limit", "most", "told"),
    [(resource.RLIMIT_NOFILE, 24, "ulimit -n")],
)
def test_limits_are_named(tmp_path: Path, limit: int, most: int, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worldmodels", *f"{COLLECT} --workers 16 --episodes 64".split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(limit, (most, most)),
    )
    assert done.returncode == 1 and told in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr
