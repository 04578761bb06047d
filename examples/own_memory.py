"""An M of your own, in one file; any V goes with it:

export PYTHONPATH=examples
worldmodels train-memory     --env doom --memory own_memory:MyM
worldmodels train-controller --env doom --dream --plugin own_memory
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.data.sequences import Sequences
from worldmodels.models.base import Dreamed, Experience, Memory, Pairing, State, Vision, in_its_precision
from worldmodels.models.codes import POINT_STD, normal, sample_code
from worldmodels.models.heads import end_loss, end_of
from worldmodels.settings.models import MemorySettings


@dataclass(frozen=True, kw_only=True)
class MyMSettings(MemorySettings):
    """Beside reward, termination and its weight."""

    sequence_length: int = 16
    """Steps per sequence."""
    units: int = 64
    """Width of the hidden layer."""


class MyM(Memory[MyMSettings]):
    """Remembers nothing: expects the next code from this one and the action."""

    def __init__(self, settings: MyMSettings, code_size: int, action_size: int) -> None:
        super().__init__(settings)
        self.code_size, self.action_size = code_size, action_size
        self.net = nn.Sequential(
            nn.Linear(code_size + action_size, settings.units), nn.Tanh(), nn.Linear(settings.units, code_size + 2)
        )

    @classmethod
    def build(cls, settings: MyMSettings, data: Experience, vision: Vision) -> Self:
        return cls(settings, vision.code_size, data.action_size)

    @property
    def wants(self) -> Sequences:
        return Sequences(self.settings.sequence_length)

    def expect(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next code (..., Z), the reward (...,) and the logit of the end (...,)."""
        out = self.net(torch.cat([z, action], -1)).float()
        return z + out[..., :-2], out[..., -2], out[..., -1]

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        shape = (*batch["reward"].shape, self.code_size)
        noise = torch.randn(2, *shape, generator=generator).to(batch["embed"].device)
        z = sample_code(batch["embed"].float(), noise[0])
        following = sample_code(batch["next_embed"].float(), noise[1])
        expected, reward, end = self.expect(z, batch["action"])
        metrics = {"code": F.mse_loss(expected, following)}
        if self.settings.reward == "head":
            metrics["reward"] = F.mse_loss(reward, batch["reward"])
        if self.settings.termination:
            metrics["termination"] = end_loss(end, batch["terminated"].float(), self.settings.termination_weight)
        total = torch.stack(list(metrics.values())).sum()
        return total, {name: value.detach() for name, value in metrics.items()}, carry

    def paired(self, vision: Vision, starts: Tensor, precision: str) -> "MyWorldModel":
        return MyWorldModel(vision, self, starts, precision)


class MyWorldModel(Pairing):
    """The state is the code, and nothing else."""

    memory: MyM

    def __init__(self, vision: Vision, memory: MyM, starts: Tensor, precision: str) -> None:
        super().__init__(vision, memory, starts, precision)
        self.noise_size = memory.code_size
        self.rows_per_core = 256
        self.feat_sizes = {"z": memory.code_size}
        self.default_inputs = ("z",)

    def initial(self, batch_size: int) -> State:
        return {"z": torch.zeros(batch_size, self.code_size, device=self.starts.device)}

    @in_its_precision
    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        return {"z": sample_code(embed, normal(noise))}

    @in_its_precision
    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        settings = self.memory.settings
        z, reward, end = self.memory.expect(state["z"], action)
        if settings.reward != "head":
            reward = torch.full_like(reward, float(settings.reward == "alive"))
        if not settings.termination:
            end = torch.full_like(end, -torch.inf)
        z = z + POINT_STD * math.sqrt(tau) * normal(noise)
        return Dreamed({"z": z}, reward, *end_of(end, settings.termination_weight))

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return torch.cat([state[part] for part in parts], -1)

    @in_its_precision
    def decode(self, state: State) -> Tensor:
        return self.vision.decode(state["z"])
