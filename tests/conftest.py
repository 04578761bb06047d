"""Shared: a tiny but real world (ViZDoom rollouts, V, M), trained once per session."""

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from worldmodels import models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, save_controller
from worldmodels.core import plugins
from worldmodels.core.files import write_bytes
from worldmodels.data.episode import Episode
from worldmodels.data.shard import pack_shard
from worldmodels.settings import environments
from worldmodels.settings.commands import (
    CompareConfig,
    EvaluateConfig,
    ExportConfig,
    PlayConfig,
    ProbeConfig,
    RunConfig,
)
from worldmodels.settings.models import HRSSMSettings, MDNRNNSettings, RSSMSettings, VAESettings
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig, VisionConfig
from worldmodels.stages.collect import collect
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

settings.register_profile(
    "worldmodels", deadline=None, max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("worldmodels")
torch.set_num_threads(1)
PAIRS = [("vae", "mdnrnn"), ("vae", "rssm"), ("hrssm", "mdnrnn"), ("hrssm", "rssm")]
SMALL: dict[str, Any] = {"hidden_size": 12, "groups": 3, "classes": 4, "units": 16}
TINY_HRSSM = HRSSMSettings(code_size=8, depth=4, sequence_length=8, **SMALL)
COMMANDS: dict[str, type] = {
    "01_collect": CollectConfig, "02_train_vision": VisionConfig, "03_train_memory": MemoryConfig,
    "04_train_controller": ControllerConfig, "evaluate": EvaluateConfig, "probe": ProbeConfig,
    "run": RunConfig, "compare": CompareConfig,
    "play": PlayConfig, "export": ExportConfig,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class World:
    """Where the tiny world lies, and the settings it was made with."""

    collect: CollectConfig
    vision: VisionConfig
    memory: MemoryConfig

    @property
    def run(self) -> Path:
        return self.vision.run

    @property
    def data(self) -> Path:
        return self.vision.data

    def controller(self, **changes: object) -> ControllerConfig:
        """A tiny controller's settings."""
        settings = {
            "env": "doom", "run": self.run, "data": self.data, "workers": 0, "dream": True, "inputs": ("z", "c", "h"),
            "bias": False, "generations": 3, "pop_size": 4, "episodes": 2, "max_steps": 30, "test_every": 2,
            "test_episodes": 4, "real_episodes": 2, "final_episodes": 2,
        }  # fmt: skip
        return ControllerConfig(**(settings | changes))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where files are tested side by side (make test), the longest comes first, so that all end together."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name != "test_pipelines.py")


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers, and what it types, is forgotten after it."""
    monkeypatch.setattr(environments, "_RECORDS", dict(environments._RECORDS))
    monkeypatch.setattr(plugins, "_typed", {})
    for module in ("my_package", "own_environment", "own_vision", "own_memory"):
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    common = {"env": "doom", "run": folder / "run", "data": folder / "data", "workers": 0}
    made = World(
        CollectConfig(**common, episodes=6, shard_size=3, max_steps=50),
        VisionConfig(
            **common, steps=6, batch_size=16, save_every=2, shuffle_buffer=100, model=VAESettings(code_size=8)
        ),
        MemoryConfig(
            **common, steps=6, batch_size=4, save_every=2, clip=1.0, shuffle_buffer=100,
            model=MDNRNNSettings(hidden_size=16, restart_input=True, reward="alive", sequence_length=10),
        ),
    )  # fmt: skip
    collect(made.collect)
    train_vision(made.vision)
    train_memory(made.memory)
    memory, extra = models.load_module(made.run / "memory", "memory")
    mortal(memory)
    about = {name: extra[name] for name in ("env", "vision_fingerprint", "starts", "moments")}
    models.save_module(memory, made.run / "memory", "memory", **about, end_shift=0.0)
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium here; apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def goes_right(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Doom world with a controller, that always goes right."""
    folder = tmp_path_factory.mktemp("right") / "run"
    shutil.copytree(world.run, folder, ignore=shutil.ignore_patterns("controller"))
    config = dataclasses.replace(world.controller(), run=folder, inputs=("z",), bias=True)
    spec = ControllerSpec.of(config, models.load(folder, precision="fp32"))
    params = np.array([20.0, *np.zeros(8)], np.float32)  # the bias comes first
    score = {"mean": 0.0, "std": 0.0, "ci": 0.0, "n": 2}
    about = {"generation": 0, "tau": 1.15, "sample_end": False, "trained": score, "real": score}
    save_controller(folder / "controller/right" / FILE, spec, params, about)
    return folder


@pytest.fixture(scope="session")
def pairs(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], World]:
    """The tiny Doom world with each V and M; V is trained once for both Ms."""
    folder = tmp_path_factory.mktemp("pairs")
    made = {("vae", "mdnrnn"): world}
    hrssm = dataclasses.replace(
        world.vision, run=folder / "hrssm-mdnrnn", vision="hrssm", model=TINY_HRSSM, batch_size=4, max_norm=100.0
    )  # fmt: skip
    train_vision(hrssm)
    for v, m in PAIRS[1:]:
        vision = dataclasses.replace(world.vision if v == "vae" else hrssm, run=folder / f"{v}-{m}")
        if not vision.run.exists():
            vision.run.mkdir()
            (vision.run / "vision").symlink_to((world.run if v == "vae" else hrssm.run) / "vision")
        members = 1 if (v, m) == ("hrssm", "rssm") else 2
        hiding = dataclasses.replace(world.memory.model, dropout=0.1, members=members)
        memory = dataclasses.replace(world.memory, run=vision.run, model=hiding)
        if m == "rssm":
            rssm = RSSMSettings(reward="alive", sequence_length=10, dropout=0.1, members=members, **SMALL)
            memory = dataclasses.replace(memory, memory="rssm", model=rssm, clip=0.0)
        train_memory(memory)
        made[v, m] = World(world.collect, vision, memory)
    return made


def mortal(memory: Any) -> None:
    """A few steps of training teach no deaths: makes them likely, and dependent on what is dreamt."""
    generator = torch.Generator().manual_seed(0)
    memory.head.weight.data[-1].normal_(0, 2, generator=generator)
    memory.head.bias.data[-1] = -1.0


@pytest.fixture(scope="session")
def model(world: World):
    return models.load(world.run, precision="fp32")


def make_episode(rng: np.random.Generator, steps: int, action_size: int = 2, terminated: bool = True) -> Episode:
    """A valid episode of noise."""
    return Episode(
        obs=rng.integers(0, 256, (steps + 1, 64, 64, 3), np.uint8),
        action=rng.uniform(-1, 1, (steps, action_size)).astype(np.float32),
        reward=rng.normal(size=steps).astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        seed=int(rng.integers(2**31)),
    )


def descendants(process: int) -> list[int]:
    """The processes that `process` started, and those that they did."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for path in tasks for child in path.read_text().split()]
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def write_shard(path: Path, episodes: list[Episode], attributes: dict[str, object]) -> None:
    """A shard on disk, as stage 1 writes it."""
    asked = {"policy": "varied", "seed": 0, "max_steps": 1000, "min_steps": 0, "shard_size": 16, "noise": 0.0}
    write_bytes(path, pack_shard(episodes, asked | attributes))
