"""A run with all there is to play with, and a server that shows it."""

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import World
from worldmodels import models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, save_controller
from worldmodels.page.contents import Contents, opened
from worldmodels.settings.config import PlayConfig

SCORE = {"mean": 0.0, "std": 0.0, "ci": 0.0, "n": 2}


@pytest.fixture(scope="session")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Doom world with a controller, that always goes right."""
    folder = tmp_path_factory.mktemp("play") / "run"
    shutil.copytree(world.run, folder)
    config = dataclasses.replace(world.controller(), run=folder, inputs=("z",), bias=True)
    spec = ControllerSpec.of(config, models.load(folder, precision="fp32"))
    params = np.array([20.0, *np.zeros(8)], np.float32)  # the bias comes first
    about = {"generation": 0, "tau": 1.15, "sample_end": False, "trained": SCORE, "real": SCORE}
    save_controller(folder / "controller/right" / FILE, spec, params, about)
    return folder


@pytest.fixture(scope="session")
def config(run: Path, world: World) -> PlayConfig:
    return PlayConfig(run=run, data=world.data)


@pytest.fixture(scope="session")
def contents(config: PlayConfig) -> Contents:
    return opened(config)


class Served(subprocess.Popen):
    """`worldmodels play` as a user starts it."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "worldmodels", "play", *words, "--no-browser"]
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.stdout and self.stderr
        line = self.stdout.readline()
        found = re.search(r"http://([^/]+)/", line)
        assert found, line + self.stderr.read()
        self.host = found[1]


@pytest.fixture(scope="session")
def served(config: PlayConfig) -> Iterator[Served]:
    server = Served(str(config.run), "--data", str(config.data), "--port", "0")
    yield server
    server.kill()
    server.communicate()
