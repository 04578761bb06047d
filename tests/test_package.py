"""What those get who install the package."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldmodels.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for pip leaves its own files beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "worldmodels", source / "worldmodels", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("worldmodels-*.whl")
    return built


def test_a_wheel_holds_all_modules_and_says_that_they_are_typed(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "worldmodels").rglob("*.py")}
    pages = [ROOT / "worldmodels" / folder for folder in ("page/static", "web/static", "web/runtime")]
    page = {str(path.relative_to(ROOT)) for folder in pages for path in folder.iterdir()}
    assert page and ours | page | {"worldmodels/py.typed", "worldmodels/envs/engine"} <= held


class Installed:
    """The wheel in an environment of its own, beside what it needs; a folder that is not this one's; commands there."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        venv.create(folder / "venv", symlinks=True)
        self.bin = folder / "venv/bin"
        (packages,) = folder.glob("venv/lib/python*/site-packages")
        # a plain folder on the path: what lies there can be imported, but its .pth files are not looked at, and so not
        # the link to the source tree that an editable install is
        (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
        install = [*PIP, "--python", str(self.bin / "python"), "install", "--no-deps", "--no-index", str(wheel)]
        subprocess.run(install, check=True, capture_output=True, timeout=120)
        self.packages = packages
        self.folder = folder / "elsewhere"
        self.folder.mkdir()
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.bin / words[0], *words[1:]],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> str:
        process = self.start(*words)
        out, error = process.communicate(timeout=280)
        assert process.returncode == 0, error
        return out


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


@pytest.mark.slow
def test_what_is_installed_is_what_is_imported(installed: Installed) -> None:
    told = "import worldmodels, importlib.metadata as m; print(worldmodels.__file__, m.version('worldmodels'))"
    path, version = installed.run("python", "-c", told).split()
    assert Path(path).parent == installed.packages / "worldmodels"
    assert f"version = {version}\n" in (ROOT / "setup.cfg").read_text()


@pytest.mark.slow
def test_every_command_explains_itself(installed: Installed) -> None:
    overview = installed.run("worldmodels", "--help")
    for name in COMMANDS:
        assert name in overview
        assert f"usage: worldmodels {name}" in installed.run("worldmodels", name, "--help")


@pytest.mark.slow
def test_stages_run_and_their_run_is_played(installed: Installed) -> None:
    """Two stages in the real Doom, whose engine a script of ours starts; then the page, with all that it loads."""
    common = ("--env", "doom", "--preset", "tiny", "--workers", "1")
    installed.run("worldmodels", "collect", *common, "--episodes", "4", "--shard-size", "2", "--max-steps", "30")
    installed.run("worldmodels", "train-vision", *common, "--steps", "3", "--batch-size", "8")
    assert (installed.folder / "runs/doom/report.html").exists()
    with played(installed) as page:
        with urllib.request.urlopen(page, timeout=60) as answer:
            index = answer.read().decode()
        assert index == (ROOT / "worldmodels/page/static/index.html").read_text()
        wanted = re.findall(r'(?:src|href)="([\w./]+)"', index)
        assert len(wanted) >= 3
        for name in wanted:
            with urllib.request.urlopen(page + name.lstrip("/"), timeout=60) as answer:
                assert answer.status == 200 and answer.read()


@contextlib.contextmanager
def played(installed: Installed) -> Iterator[str]:
    """The address where it is played, for as long as that is looked at."""
    process = installed.start("worldmodels", "play", "runs/doom", "--no-browser", "--port", "0")
    assert process.stdout and process.stderr
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield found[0]
    finally:
        process.kill()
        process.communicate()
