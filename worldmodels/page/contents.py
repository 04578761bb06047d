"""What there is of a run to play with: V at least; M, and controllers, if it has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting import controller_spec
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core.device import prepare_device
from worldmodels.core.errors import UserError
from worldmodels.core.seeding import rng
from worldmodels.data.rollouts import evenly, rollout_folder
from worldmodels.dreams.planning import Planner
from worldmodels.dreams.play import by_controller
from worldmodels.models.base import State, Vision, WorldModel
from worldmodels.page.messages import DECIDED, ENDS, HIGHEST_TAU, LOWEST_TAU, SAMPLED, SPEEDS
from worldmodels.settings.commands import PlayConfig
from worldmodels.settings.environments import Environment, record_of, refuse_untyped
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.flags import default_of
from worldmodels.settings.planning import ByPlan
from worldmodels.settings.presets import preset_of
from worldmodels.settings.stages import ControllerConfig

MOST_SHARDS = 8  # whose held-out episodes are offered


@dataclass(frozen=True)
class Contents:
    """A run, opened."""

    run: Path
    env: EnvSpec
    vision: Vision[Any]
    model: WorldModel | None  # None without M
    controllers: Mapping[str, Path]  # name -> folder
    shards: tuple[Path, ...]  # of rollouts in this environment, some of them

    @property
    def plans(self) -> bool:
        """Whether its dreams can be planned in."""
        return self.model is not None and not self.model.rewardless

    @property
    def record(self) -> Environment:
        """What there is to say about the environment."""
        return record_of(self.env.name)


class Pilot:
    """A controller that acts by what is dreamt.

    Args:
        model: the run's V and M.
        folder: of the controller.

    Raises:
        UserError: if it is damaged, or was evolved for another V or M.
    """

    def __init__(self, model: WorldModel, folder: Path) -> None:
        spec, params, _ = load_controller(folder)
        controller = spec.controller(model)
        self._act = by_controller(model, controller, spec.inputs)
        self._given = controller.given(torch.tensor(params, device=model.starts.device)[None])

    @torch.no_grad()
    def act(self, state: State) -> np.ndarray:
        """float32 (A,) in a state of one row."""
        action: np.ndarray = self._act(state, self._given)[0].cpu().numpy()
        return action


class Planning:
    """Acts as a Pilot does, by planning from what is dreamt on.

    Args:
        model: the run's V and M, whose dreams pay.
        seed: of its luck.
    """

    def __init__(self, model: WorldModel, seed: int) -> None:
        self._planner = Planner(model, ByPlan(plan="icem"))
        self._seed = seed
        self._plans = self._planner.idle(1)
        self._step = 0

    def act(self, state: State) -> np.ndarray:
        """float32 (A,) in a state of one row, a step after the last."""
        action, self._plans = self._planner.decide(state, self._plans, [rng(self._seed, "plan", self._step)])
        self._step += 1
        decided: np.ndarray = action[0].cpu().numpy()
        return decided


def sample_end(env: str) -> bool:
    """Whether dreams of an environment end with the predicted chance, as its presets of stage 4 have it."""
    return bool(preset_of(ControllerConfig, env, "laptop").get("sample_end", False))


def dials(env: str, action_size: int) -> dict[str, Any]:
    """What a page of an environment has to turn and to press: its part of `hello`."""
    record = record_of(env)
    return {
        "tau": {"value": record.tau, "least": LOWEST_TAU, "most": HIGHEST_TAU},
        "ends": {"value": SAMPLED if sample_end(env) else DECIDED, "all": ENDS},
        "speeds": SPEEDS,
        "rest": record.rest_of(action_size),
        "keys": record.keys_of(action_size),
        "mapped": bool(record.keys),
    }


def opened(config: PlayConfig) -> Contents:
    """What `worldmodels play` was asked to show.

    Raises:
        UserError: if the run is not there, has no V, or holds what is damaged or of another version; if --data was
            typed and has no rollouts.
    """
    run = _run(config)
    device = prepare_device(config.device)
    vision, about = models.load_module(run / "vision", "vision")
    env = EnvSpec(**about["spec"])
    refuse_untyped(env.name, run)
    has_memory = (run / "memory" / models.FILE).exists()
    model = models.load(run, device) if has_memory else None
    vision.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Contents(
        run,
        env.with_videos(config.distractor_videos),
        vision.requires_grad_(False),
        model,
        controllers_of(config.run, run) if model else {},
        _shards(config.data, env),
    )


def _run(config: PlayConfig) -> Path:
    named = config.run
    if not named.is_dir():
        usual = named == default_of(PlayConfig, "run")
        told = f"there is no {named} here" if usual else f"--run {named} is not there"
        raise UserError(f"{told}; name a run that holds a trained V and M: worldmodels play runs/doom")
    return run_of(named)


def run_of(named: Path) -> Path:
    """The folder of V and M, also where that of a controller was named."""
    return named.resolve().parents[1] if (named / controller_spec.FILE).exists() else named


def controllers_of(named: Path, run: Path) -> dict[str, Path]:
    """Those to choose from, by name: that which was named, or all of the run."""
    if named != run:
        return {named.resolve().name: named.resolve()}
    return {folder.name: folder for folder in controller_spec.controllers_of(run)}


def _shards(asked: Path, env: EnvSpec) -> tuple[Path, ...]:
    data = Path("data") / env.slug if asked == Path() else asked
    found = sorted(rollout_folder(data).glob("*.h5"))
    if asked != Path() and not found:
        raise UserError(f"--data {asked} holds no rollouts; give a folder that 01_collect.py wrote")
    return tuple(found[index] for index in evenly(len(found), MOST_SHARDS))
