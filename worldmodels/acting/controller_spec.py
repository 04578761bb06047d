"""What makes a controller, without its numbers; and a trained one on disk, with them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.actor import Actor
from worldmodels.acting.controller import Acts, Controller
from worldmodels.core import checkpoint, schema
from worldmodels.core.device import resolved
from worldmodels.core.errors import UserError
from worldmodels.models.base import WorldModel
from worldmodels.settings.environments import record_of
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import ActorSettings
from worldmodels.settings.stages import ControllerConfig

FILE = "controller.safetensors"
SCORE = schema.fields(
    mean=schema.number(),
    std=schema.number(finite=False),
    ci=schema.number(finite=False),
    n=schema.whole(1),
)
HOLDS = schema.fields(
    {
        "actor": schema.fields(
            {"scaled": schema.flag},
            units=schema.whole(1, 65536),
            layers=schema.whole(1, 100),
            choices=schema.each(schema.each(schema.number(-1, 1), least=1)),
        ),
    },
    params=schema.array("float32", None),
    env=models.SPEC,
    inputs=schema.each(schema.text(100), least=1),
    hidden_size=schema.whole(0, 65536),
    bias=schema.flag,
    max_steps=schema.whole(1),
    precision=schema.one_of("auto", "bf16", "fp32"),
    model=schema.text(100),
    about=schema.fields(
        {"seed": schema.whole(), "trained": SCORE, "real": SCORE},
        generation=schema.whole(0),
        tau=schema.maybe(schema.number(1e-9, 1e9)),
        sample_end=schema.flag,
    ),
)
"""What a controller's file holds; that of an actor, its network too."""


@dataclass(frozen=True)
class Network:
    """An actor's network (actor.py) without its numbers."""

    units: int
    layers: int
    choices: tuple[tuple[float, ...], ...]
    scaled: bool = False

    @classmethod
    def of(cls, settings: ActorSettings, env: str, action_size: int) -> "Network":
        """As an actor is asked to be in `env`.

        Raises:
            UserError: if it is to choose, where there is nothing to choose from.
        """
        known = record_of(env).choices
        choices: Sequence[tuple[float, ...]] = known if settings.actions != "numbers" else ()
        if settings.actions == "choices" and not known:
            if action_size == 1:
                raise UserError(f"--actions choices: an action of {env} is one number; give --actions numbers")
            choices = [tuple(1.0 if i == k else -1.0 for i in range(action_size)) for k in range(action_size)]
        if odd := [choice for choice in choices if len(choice) != action_size]:
            raise UserError(
                f"the record of {env} lists a choice of {len(odd[0])} numbers; its actions have {action_size}"
            )
        return cls(settings.units, settings.layers, tuple(choices), settings.SCALED)

    def plain(self) -> dict[str, Any]:
        """For a file."""
        choices = [list(choice) for choice in self.choices]
        return {"units": self.units, "layers": self.layers, "choices": choices, "scaled": self.scaled}

    @classmethod
    def read(cls, tree: dict[str, Any]) -> "Network":
        """As `plain` told it."""
        choices = tuple(tuple(map(float, choice)) for choice in tree["choices"])
        return cls(tree["units"], tree["layers"], choices, tree.get("scaled", False))


@dataclass(frozen=True)
class ControllerSpec:
    """A controller without its numbers: where it acts, by which V and M, from which inputs; and how: linear, with a
    hidden layer, or by an actor's network."""

    env: EnvSpec
    run: Path  # folder with vision/ and memory/
    inputs: tuple[str, ...]
    hidden_size: int
    bias: bool
    max_steps: int
    precision: str
    actor: Network | None = None

    @classmethod
    def of(cls, config: ControllerConfig, model: WorldModel) -> "ControllerSpec":
        """As stage 4 is asked to have it. Raises UserError if that cannot be."""
        actor = None
        usual = model.default_inputs
        if isinstance(config.model, ActorSettings):
            actor = Network.of(config.model, config.env, model.action_size)
            usual = tuple(dict.fromkeys(("z", *usual)))
        return cls(
            config.spec,
            config.run.resolve(),
            config.inputs or usual,
            config.hidden_size,
            config.bias,
            config.max_steps,
            config.precision,
            actor,
        )

    def for_worker(self, run: Path) -> "ControllerSpec":
        """The same for a worker, who finds the run at `run`; "auto" means there what it means here."""
        return replace(self, run=run, precision=resolved(self.precision, torch.device("cpu")))

    def model(self, version: str) -> WorldModel:
        """What it sees and remembers with, kept by this process. `version` is the run's fingerprint.

        Raises:
            UserError: if the run holds another by now.
        """
        return models.cached(self.run, version, self.precision)

    def controller(self, model: WorldModel) -> Acts:
        """The controller that fits `model`. Raises UserError if the model lacks one of the inputs."""
        return self.new_actor(model) if self.actor else self._linear(model)

    def new_actor(self, model: WorldModel) -> Actor:
        """The actor that fits `model`, with numbers of its own. Raises UserError as `controller` does."""
        assert self.actor is not None
        network = self.actor
        return Actor(
            self._width(model), model.action_size, network.units, network.layers, network.choices, network.scaled
        )

    def _linear(self, model: WorldModel) -> Controller:
        return Controller(self._width(model), model.action_size, self.hidden_size, self.bias)

    def _width(self, model: WorldModel) -> int:
        """F, of the inputs together."""
        for part in self.inputs:
            if part not in model.feat_sizes:
                known = ", ".join(model.feat_sizes)
                raise UserError(f"--inputs {part} is not among this model's features: {known}")
        return sum(model.feat_sizes[part] for part in self.inputs)


def save_controller(
    path: Path,
    spec: ControllerSpec,
    params: np.ndarray,
    about: dict[str, Any],
    model: str | None = None,
) -> None:
    """Saves a controller with all it takes to act but V and M, which lie in the run folder two levels up.

    `model` is their fingerprint, if that is known; "" if there are none yet.
    """
    tree = {
        "params": np.asarray(params, np.float32),
        "env": spec.env.plain(),
        "inputs": list(spec.inputs),
        "hidden_size": spec.hidden_size,
        "bias": spec.bias,
        "max_steps": spec.max_steps,
        "precision": spec.precision,
        "model": models.fingerprint(spec.run) if model is None else model,
        "about": about,
    }
    if spec.actor:
        tree["actor"] = spec.actor.plain()
    checkpoint.save(path, "controller", tree)


def policy_name(params: np.ndarray, model: str) -> str:
    """What rollouts call a controller: by its numbers (D,), and by the fingerprint of the V and M that it sees with."""
    told = params.astype(np.float32).tobytes() + model.encode()
    return f"controller-{hashlib.sha256(told).hexdigest()[:8]}"


def load_controller(folder: Path, asked: str = "--run") -> tuple[ControllerSpec, np.ndarray, dict[str, Any]]:
    """A trained controller: how it acts, its params (D,), and what is told about it.

    Args:
        folder: a controller's folder, or a run that holds exactly one.
        asked: the flag that named it.

    Raises:
        UserError: if there is none, there are several, it was evolved for another V or M, or is damaged.
    """
    folder = _only_one(folder, asked)
    tree = checkpoint.load(folder / FILE, "controller")
    if not isinstance(tree.get("env"), dict):
        raise UserError(f"{folder / FILE} was saved by another version; run stage 4 again with --fresh")
    schema.check(tree, HOLDS, folder / FILE)
    run = folder.parents[1]
    if models.fingerprint(run) != tree["model"]:
        raise UserError(
            f"{folder} was evolved for another V or M than {run} holds now; run stage 4 again with --fresh",
        )
    spec = ControllerSpec(
        EnvSpec(**tree["env"]),
        run,
        tuple(tree["inputs"]),
        tree["hidden_size"],
        tree["bias"],
        tree["max_steps"],
        tree["precision"],
        Network.read(tree["actor"]) if "actor" in tree else None,
    )
    needed = _needed(spec, models.load(run, precision="fp32"), folder / FILE)
    held = len(tree["params"])
    if held != needed:
        raise UserError(f"{folder / FILE} holds {held} numbers, but its controller has {needed}")
    return spec, tree["params"], tree["about"] | {"folder": str(folder)}


def _needed(spec: ControllerSpec, model: WorldModel, path: Path) -> int:
    """How many numbers it takes, counted without room for them. Raises UserError naming `path` if it cannot be."""
    try:
        with torch.device("meta"):
            return spec.controller(model).num_params
    except ValueError as error:
        raise UserError(f"{path} holds an actor that cannot be: {error}") from error


def controllers_of(run: Path) -> list[Path]:
    """The folders of a run's controllers, by name."""
    return sorted(path.parent for path in run.glob(f"controller/*/{FILE}"))


def _only_one(folder: Path, asked: str) -> Path:
    """The folder of the controller: this one, or that of the only controller of a run."""
    if (folder / FILE).exists():
        return folder.resolve()
    found = controllers_of(folder)
    if len(found) > 1:
        several = ", ".join(map(str, found))
        raise UserError(f"{asked} {folder} holds several controllers; give one of: {several}")
    if not found:
        raise UserError(f"{asked} {folder} holds no controller; run pipelines/04_train_controller.py first")
    return found[0].resolve()
