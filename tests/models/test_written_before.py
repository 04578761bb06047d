"""Models and run folders as earlier versions wrote them, flat and with settings of all models side by side."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import SMALL, World
from tests.training.test_train import metrics
from worldmodels import models
from worldmodels.core import checkpoint
from worldmodels.core.errors import UserError
from worldmodels.models.base import Trainable
from worldmodels.models.hrssm import HRSSM
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.recurrent import RSSMMemory
from worldmodels.models.vae import VAE
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import HRSSMSettings, MDNRNNSettings, RSSMSettings, VAESettings
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

OLD_HRSSM = SMALL | {
    "action_size": 2,
    "depth": 4,
    "code_size": 8,
    "layers": 2,
    "mask_ratio": 0.0,
    "bisimulation": False,
    "losses": "paper",
    "reward_range": [-1.0, 2.0],
    "usual_rewards": [0.0, 0.5],
    "free_nats": 1.0,
}
OLD_MDNRNN = {
    "code_size": 8,
    "action_size": 2,
    "hidden_size": 12,
    "mixtures": 3,
    "restart_input": True,
    "reward": "head",
    "termination": False,
    "termination_weight": 10.0,
}
OLD_RSSM = SMALL | {
    "embed_size": 8,
    "code_size": 8,
    "action_size": 2,
    "layers": 2,
    "explains": False,
    "reward": "alive",
    "termination": True,
    "termination_weight": 1.0,
    "free_nats": 1.0,
    "reward_range": [-1.0, 2.0],
    "losses": "paper",
}
HRSSM_NOW = HRSSM(
    HRSSMSettings(depth=4, code_size=8, mask=False, bisimulation=False, losses="paper", **SMALL), 2, [-1, 2], [0, 0.5]
)
RSSM_NOW = RSSMMemory(RSSMSettings(reward="alive", **SMALL), 8, 8, 2, False, [-1.0, 2.0], "paper")
MDNRNN_NOW = MDNRNN(MDNRNNSettings(hidden_size=12, mixtures=3, restart_input=True, termination=False), 8, 2)


@pytest.mark.parametrize(
    ("family", "kind", "config", "same"),
    [
        ("vae", "vision", {"code_size": 8, "kl_floor": 0.25}, VAE(VAESettings(code_size=8))),
        ("hrssm", "vision", OLD_HRSSM, HRSSM_NOW),
        ("mdnrnn", "memory", OLD_MDNRNN, MDNRNN_NOW),
        ("rssm", "memory", OLD_RSSM, RSSM_NOW),
    ],
)
def test_a_model_is_opened(tmp_path: Path, family: str, kind: Any, config: dict[str, Any], same: Trainable) -> None:
    tree = {"family": family, "config": config, "weights": same.state_dict(), "env": "doom"}
    if kind == "vision":
        tree |= {"spec": EnvSpec("doom").plain(), "clips": []}
    else:
        tree |= {"vision_fingerprint": "0", "starts": torch.zeros(2, 8)}
    checkpoint.save(tmp_path / models.FILE, kind, tree)
    opened, _ = models.load_module(tmp_path, kind)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in opened.state_dict().items())
    assert {name: opened.config[name] for name in config} == config and opened.family == family
    if isinstance(opened, HRSSM):
        assert opened.mask_ratio == 0 and not opened.settings.bisimulation
    unknown = tree | {"config": config | {"wings": 2}}
    checkpoint.save(tmp_path / models.FILE, kind, unknown)
    with pytest.raises(UserError, match=r"was saved by another version .*wings"):
        models.load_module(tmp_path, kind)


# what config.json held of settings that are a model's by now, in runs of VisionConfig and of MemoryConfig
OLD_VISION = {
    "groups": 32,
    "classes": 32,
    "units": 512,
    "vision": "vae",
    "code_size": 8,
    "kl_floor": 0.5,
    "sequence_length": 64,
    "depth": 32,
    "hidden_size": 512,
    "mask": True,
    "mask_ratio": 0.5,
    "bisimulation": True,
    "losses": "mended",
}
OLD_MEMORY = {
    "memory": "mdnrnn",
    "hidden_size": 16,
    "mixtures": 5,
    "sequence_length": 10,
    "restart_input": True,
    "reward": "alive",
    "termination": True,
    "termination_weight": 10.0,
    "groups": 32,
    "classes": 32,
    "units": 512,
}


def test_a_run_is_gone_on_with(world: World, tmp_path: Path) -> None:
    written_before(world, tmp_path, "vision", OLD_VISION)
    train_vision(dataclasses.replace(world.vision, run=tmp_path))
    assert metrics(tmp_path / "vision") == metrics(world.run / "vision")
    written_before(world, tmp_path, "memory", OLD_MEMORY)
    train_memory(dataclasses.replace(world.memory, run=tmp_path))
    assert metrics(tmp_path / "memory") == metrics(world.run / "memory")


def test_so_is_one_of_an_hrssm_and_an_rssm_whose_newer_settings_are_as_they_were(
    pairs: dict[tuple[str, str], World], tmp_path: Path
) -> None:
    pair = pairs["hrssm", "rssm"]
    here = dataclasses.replace(pair.vision, run=tmp_path)
    written_before(pair, tmp_path, "vision", OLD_VISION | SMALL | {"vision": "hrssm", "depth": 4, "sequence_length": 8})
    train_vision(here)
    assert metrics(tmp_path / "vision") == metrics(pair.run / "vision")
    with pytest.raises(UserError, match=r"was begun with --layers 2, not 3"):
        train_vision(dataclasses.replace(here, model=dataclasses.replace(pair.vision.model, layers=3)))
    with pytest.raises(UserError, match=r"was begun with --depth 4, not 5"):
        train_vision(dataclasses.replace(here, model=dataclasses.replace(pair.vision.model, depth=5)))
    old = OLD_MEMORY | SMALL | {"memory": "rssm", "restart_input": False, "dropout": 0.1}  # the last is newer
    written_before(pair, tmp_path, "memory", old)
    train_memory(dataclasses.replace(pair.memory, run=tmp_path))
    assert metrics(tmp_path / "memory") == metrics(pair.run / "memory")


def written_before(world: World, run: Path, stage: str, settings: dict[str, object]) -> None:
    """A copy of a stage's folder, with `settings` in place of all that config.json holds of models and their names."""
    shutil.copytree(world.run / stage, run / stage)
    path = run / stage / "config.json"
    now = json.loads(path.read_text())
    model = dataclasses.asdict(getattr(world, stage).model)
    kept = {name: value for name, value in now.items() if name not in {*model, "plugin"}}
    path.write_text(json.dumps(kept | settings))
