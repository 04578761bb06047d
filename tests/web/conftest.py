"""Exported dreams of both families, served as any folder is."""

import dataclasses
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SMALL, TINY_HRSSM, World
from worldmodels import models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, Network, save_controller
from worldmodels.core import checkpoint
from worldmodels.models.hrssm import HRSSM
from worldmodels.models.recurrent import RSSMMemory
from worldmodels.settings.commands import ExportConfig
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import RSSMSettings
from worldmodels.stages.export import export

SCORE = {"mean": 0.0, "std": 0.0, "ci": 0.0, "n": 2}
INPUTS = {"mdnrnn": ("z", "c", "h"), "rssm": ("projection", "probs", "z", "h")}
CHOICES: dict[str, tuple[tuple[float, ...], ...]] = {"mdnrnn": (), "rssm": ((-1.0,), (0.0,), (1.0,))}  # of the actor
FAMILIES = tuple(INPUTS)


class Exports(dict[str, "Exported"]):
    """The export of each family, made when it is first asked for."""

    def __init__(self, world: World, folder: Path) -> None:
        super().__init__()
        self.web = folder / "web"
        self._world = world
        self._runs = folder / "runs"

    def __missing__(self, family: str) -> "Exported":
        run = self._runs / family
        if family == "rssm":
            save_robust(run)
        else:
            shutil.copytree(self._world.run, run, ignore=shutil.ignore_patterns("controller"))
        self[family] = Exported(family, run, self.web / family, self._world)
        return self[family]


class Exported:
    """A run of one family with three controllers, one with a hidden layer, one a trained actor, and its export."""

    def __init__(self, family: str, run: Path, web: Path, world: World) -> None:
        self.run = run
        self.web = web
        self._world = world
        self._save_controller("right", ("z",), np.array([20.0, *np.zeros(2000)], np.float32))
        numbers = np.random.default_rng(0).normal(0, 0.3, 2000).astype(np.float32)
        self._save_controller("deep", INPUTS[family], numbers, hidden_size=3)
        network = Network(units=8, layers=1, choices=CHOICES[family], scaled=True)
        self._save_controller("trained", INPUTS[family], np.abs(numbers) + 0.1, actor=network)
        export(ExportConfig(run=self.run, web=self.web))

    def _save_controller(
        self, name: str, inputs: tuple[str, ...], params: Any, actor: Network | None = None, **more: Any
    ) -> None:
        config = dataclasses.replace(self._world.controller(), run=self.run, inputs=inputs, bias=True, **more)
        model = models.load(self.run, precision="fp32")
        spec = dataclasses.replace(ControllerSpec.of(config, model), actor=actor)
        about = {"generation": 0, "tau": 1.15, "sample_end": False, "trained": SCORE, "real": SCORE}
        count = spec.controller(model).num_params
        save_controller(self.run / "controller" / name / FILE, spec, params[:count], about)


def save_robust(run: Path) -> None:
    """An HRSSM and an RSSM that have learnt nothing, but with a say in everything: rewards, ends, codes."""
    torch.manual_seed(0)
    env = EnvSpec("doom")
    vision = HRSSM(TINY_HRSSM, action_size=1)
    settings = RSSMSettings(reward="head", sequence_length=10, **SMALL)
    memory = RSSMMemory(settings, vision.embed_size, vision.code_size, 1, explains=False, reward_range=(-3.0, 5.0))
    for module in (vision, memory):
        for parameter in module.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    models.save_module(vision, run / "vision", "vision", env=env.label, spec=env.plain(), clips=[])
    seen = {"env": env.label, "vision_fingerprint": checkpoint.fingerprint(vision.state_dict())}
    models.save_module(memory, run / "memory", "memory", **seen, starts=torch.randn(20, vision.embed_size))


@pytest.fixture(scope="session")
def exports(world: World, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(world, tmp_path_factory.mktemp("exports"))


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def address(exports: Exports) -> Iterator[str]:
    """Of the folder with all exports, as `python -m http.server` serves it."""
    handler = functools.partial(Silent, directory=str(exports.web))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
