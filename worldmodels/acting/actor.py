"""A trained controller on disk, and all that it takes to let it act."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.controller import Controller
from worldmodels.core import checkpoint
from worldmodels.core.device import resolved
from worldmodels.core.errors import UserError
from worldmodels.models.base import WorldModel
from worldmodels.settings.config import ControllerConfig
from worldmodels.settings.envspec import EnvSpec

FILE = "controller.safetensors"


@dataclass(frozen=True)
class Actor:
    """All that is needed to act, but the controller's numbers. Plain data: it travels to workers."""

    env: EnvSpec
    run: Path  # folder with vision/ and memory/
    inputs: tuple[str, ...]
    hidden_size: int
    bias: bool
    max_steps: int
    precision: str

    @classmethod
    def of(cls, config: ControllerConfig, model: WorldModel) -> "Actor":
        """As stage 4 is asked to have it."""
        return cls(
            config.spec, config.run.resolve(), config.inputs or model.default_inputs, config.hidden_size, config.bias,
            config.max_steps, config.precision,
        )  # fmt: skip

    def for_worker(self, run: Path) -> "Actor":
        """The same for a worker, who finds the run there; "auto" means what it means here, on whatever processor."""
        return replace(self, run=run, precision=resolved(self.precision, torch.device("cpu")))

    def controller(self, model: WorldModel) -> Controller:
        """The controller that fits `model`. Raises UserError if the model lacks one of the inputs."""
        for part in self.inputs:
            if part not in model.feat_sizes:
                raise UserError(f"--inputs {part} is not among this model's features: {', '.join(model.feat_sizes)}")
        width = sum(model.feat_sizes[part] for part in self.inputs)
        return Controller(width, model.action_size, self.hidden_size, self.bias)


def save_controller(path: Path, actor: Actor, params: np.ndarray, about: dict[str, Any]) -> None:
    """Saves a controller with all it takes to act but V and M, which lie in the run folder two levels up."""
    tree = {
        "params": np.asarray(params, np.float32), "env": actor.env.plain(), "inputs": list(actor.inputs),
        "hidden_size": actor.hidden_size, "bias": actor.bias, "max_steps": actor.max_steps,
        "precision": actor.precision, "model": models.fingerprint(actor.run), "about": about,
    }  # fmt: skip
    checkpoint.save(path, "controller", tree)


def load_controller(folder: Path) -> tuple[Actor, np.ndarray, dict[str, Any]]:
    """A trained controller: how it acts, its params (D,), and what is told about it.

    Args:
        folder: a controller's folder, or a run that holds exactly one.

    Raises:
        UserError: if there is none, there are several, or it was evolved for another V or M.
    """
    found = [folder] if (folder / FILE).exists() else sorted(p.parent for p in folder.glob(f"controller/*/{FILE}"))
    if len(found) != 1:
        if found:
            raise UserError(f"--run {folder} holds several controllers; give one of: {', '.join(map(str, found))}")
        raise UserError(f"--run {folder} holds no controller; run pipelines/04_train_controller.py first")
    folder = found[0].resolve()
    tree = checkpoint.load(folder / FILE, "controller")
    if not isinstance(tree["env"], dict):
        raise UserError(f"{folder / FILE} was saved by another version; run stage 4 again with --fresh")
    run = folder.parents[1]
    if models.fingerprint(run) != tree["model"]:
        raise UserError(f"{folder} was evolved for another V or M than {run} holds now; run stage 4 again with --fresh")
    actor = Actor(
        EnvSpec(**tree["env"]),
        run,
        tuple(tree["inputs"]),
        tree["hidden_size"],
        tree["bias"],
        tree["max_steps"],
        tree["precision"],
    )
    return actor, tree["params"], tree["about"] | {"folder": str(folder)}
