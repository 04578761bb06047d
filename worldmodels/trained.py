"""A trained agent, for code of your own:  worldmodels.load("runs/doom")"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec, load_controller
from worldmodels.acting.tape import Outcome
from worldmodels.dreams.dream_env import DreamEnv
from worldmodels.dreams.latent_env import LatentEnv
from worldmodels.envs import make_env
from worldmodels.models.base import WorldModel
from worldmodels.show import films


@dataclass(frozen=True)
class TrainedAgent:
    """V, M and C of a run.

    Attributes:
        model: V and M.
        spec: C without its numbers: where it acts, and what it gets.
        params: the numbers of C, float32 (D,).
        about: what is told of it: "tau" of the dreams that it was evolved in (None: in the real environment),
            "trained" and "real", its scores.
    """

    model: WorldModel
    spec: ControllerSpec
    params: np.ndarray
    about: dict[str, Any]

    def act(self, features: np.ndarray) -> np.ndarray:
        """What it does: float32 (A,) in [-1, 1] for features (F,), or (B, A) for (B, F).

        Features are what its `real_env` and its `dream_env` show.
        """
        seen = torch.as_tensor(np.atleast_2d(features), dtype=torch.float32)
        params = torch.from_numpy(self.params).expand(len(seen), -1)
        actions: np.ndarray = self.spec.controller(self.model).act(params, seen).numpy()
        return actions.reshape(*np.shape(features)[:-1], -1)

    def real_env(self) -> LatentEnv:
        """The environment that it acts in, seen through V and M; what moves behind it was never met in training.

        Raises:
            UserError: if that cannot be made here, or is of a package that was not typed (`worldmodels.use`).
        """
        return LatentEnv(make_env(self.spec.env), self.model, self.spec.inputs, self.spec.max_steps)

    def dream_env(self, num_envs: int, **options: Any) -> DreamEnv:
        """Its dream, of the same spaces; `options` are those of DreamEnv.

        What is not said is as in evolution, with τ 1 for those that were evolved in the real environment.
        """
        usual = {"tau": self.about["tau"] or 1.0, "sample_end": self.about["sample_end"]}
        lasts = {"max_steps": self.spec.max_steps}
        return DreamEnv(self.model, num_envs, self.spec.inputs, **(usual | lasts | options))

    def film(self, path: str | Path, seed: int = 0) -> Outcome:
        """Films a real episode: the game, what V is shown, and what it makes of it. Says how the episode went.

        Raises:
            UserError: if the film or the environment cannot be made.
        """
        return films.reality(Path(path), self.model, self.spec, self.params, seed)


def load(folder: str | Path, device: torch.device | None = None) -> TrainedAgent:
    """The agent in a run folder, as stage 4 or `worldmodels pack` left it.

    Args:
        folder: a run that holds one controller, or the folder of a controller.
        device: for V and M; None is the CPU.

    Raises:
        UserError: if there is none, there are several, it was evolved for another V or M, or is damaged.
    """
    spec, params, about = load_controller(Path(folder), "the folder")
    model = models.load(spec.run, device, spec.env.label, spec.precision)
    return TrainedAgent(model, replace(spec, env=spec.env.tested()), params, about)
