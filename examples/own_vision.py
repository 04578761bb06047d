"""A V of your own, in one file. Stage 2 trains it, and everything after that goes on as ever:

export PYTHONPATH=examples
worldmodels train-vision --env doom --vision own_vision:MyV --code-size 8
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.data.frames import Frames
from worldmodels.models.base import Experience, State, Vision
from worldmodels.models.pictures import to_input, to_obs
from worldmodels.settings.models import ModelSettings


@dataclass(frozen=True, kw_only=True)
class MyVSettings(ModelSettings):
    """Each field is a flag; the text beneath it is its help."""

    PRESETS = {"tiny": {"code_size": 8, "steps": 300, "learning_rate": 3e-3}}

    code_size: int = 16
    """Numbers in a code."""
    side: int = 16
    """Pixels along each side that pictures are shrunk to before anything is learnt."""


class MyV(Vision[MyVSettings]):
    """A linear auto-encoder of small pictures."""

    wants = Frames()

    def __init__(self, settings: MyVSettings) -> None:
        super().__init__(settings)
        self.code_size = self.embed_size = settings.code_size  # a point: E is Z
        pixels = 3 * settings.side**2
        self.encoder = nn.Linear(pixels, settings.code_size)
        self.decoder = nn.Linear(settings.code_size, pixels)

    @classmethod
    def build(cls, settings: MyVSettings, data: Experience) -> Self:
        return cls(settings)

    def encode(self, obs: Tensor) -> Tensor:
        return self.encoder(self._shrunk(obs)).float().reshape(*obs.shape[:-3], -1)

    def decode(self, z: Tensor) -> Tensor:
        small = self.decoder(z.flatten(0, -2)).float().clamp(0, 1)
        large = F.interpolate(small.unflatten(1, (3, self.settings.side, -1)), 64)
        return to_obs(large.unflatten(0, z.shape[:-1]))

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        shrunk = self._shrunk(batch["obs"])
        error = F.mse_loss(self.decoder(self.encoder(shrunk)).float(), shrunk)
        return error, {"reconstruction": error.detach()}, carry

    def _shrunk(self, obs: Tensor) -> Tensor:
        return F.interpolate(to_input(obs), self.settings.side, mode="area").flatten(1)
