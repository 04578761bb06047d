"""A run with all there is to play with, and a server that shows it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from worldmodels.page.contents import Contents, opened
from worldmodels.settings.commands import PlayConfig


@pytest.fixture(scope="session")
def run(goes_right: Path) -> Path:
    """The tiny Doom world with a controller, that always goes right."""
    return goes_right


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
