"""The contracts: what a world model is to those who use it, and what a module is to the loop that trains it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.core.device import autocast

State = dict[str, Tensor]
"""Where a model is in time. Every tensor is batch first; only the model looks inside."""
POINT_STD = 0.1  # of codes whose own standard deviation is 1


class Dreamed(NamedTuple):
    """One dreamt step of B rows."""

    state: State
    reward: Tensor  # float32 (B,)
    end: Tensor  # float32 (B,), calibrated probability that the episode terminated with this step
    terminated: Tensor  # bool (B,), the model's own decision whether it did


class WorldModel(Protocol):
    """A memory advanced by what was done, and a code that is either seen or dreamt.

    Noise comes from outside, uniform in (0, 1), so that nothing here draws from a generator and every episode can
    have its own (seeding.Noise).
    """

    action_size: int
    code_size: int  # Z, of V: the first numbers of an embedding
    noise_size: int  # N, how much noise a step takes
    feat_sizes: dict[str, int]  # the parts that features can be made of, and their widths
    default_inputs: tuple[str, ...]  # the parts that serve a controller best
    rows_per_core: int  # of a dream, side by side: as many as are fastest, or nearly, and leave work for other cores
    rewardless: bool  # whether its dreams pay nothing, so that nothing can be learnt in them
    precision: str  # of its matrix products: bf16 or fp32
    starts: Tensor  # (S, E) embeddings of first observations of real episodes: where dreams begin

    def initial(self, batch_size: int) -> State:
        """The state before anything was seen; `observe` with is_first = 1 comes next."""
        ...

    def encode(self, obs: Tensor) -> Tensor:
        """uint8 (..., 64, 64, 3) -> float32 (..., E)."""
        ...

    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        """Eyes open: from the previous state and action, and what is seen now, to the state now.

        Args:
            state: the previous state, B rows.
            action: float32 (B, A), the previous action; ignored where is_first is 1.
            embed: float32 (B, E), from `encode`.
            is_first: float32 (B, 1), 1 where an episode begins.
            noise: float32 (B, N) in (0, 1).
        """
        ...

    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        """Eyes shut: what comes next, at temperature `tau`. Shapes as in `observe`.

        On a GPU this and `features` become one CUDA graph, so they must ask the host for no value.
        """
        ...

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        """float32 (B, F): the named parts of `feat_sizes`, in that order. All that a controller ever gets."""
        ...

    def decode(self, state: State) -> Tensor:
        """uint8 (B, 64, 64, 3): the state as a picture, for people."""
        ...


class Vision(Protocol):
    """V: pictures to codes, and back for people."""

    family: str
    config: dict[str, Any]  # what it takes to build it again
    code_size: int  # Z
    embed_size: int  # E: 2Z where a code is a mean and a variance, else Z

    def encode(self, obs: Tensor) -> Tensor:
        """uint8 (..., 64, 64, 3) -> float32 (..., E)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """float32 (..., Z) -> uint8 (..., 64, 64, 3)."""
        ...


class Trainable(Protocol):
    """A module that the training loop can train."""

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """The loss, the numbers that a person wants to see, and what the next batch is to be given as `carry`."""
        ...


def normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones."""
    return torch.erfinv(uniform * 2 - 1) * math.sqrt(2)  # a fifth of ndtri's time


def sample_code(embed: Tensor, noise: Tensor) -> Tensor:
    """A code z (..., Z) from what V made of a picture and standard normal noise (..., Z).

    Args:
        embed: [mu, logvar] (..., 2Z), or a point (..., Z), which gets noise of POINT_STD: of exact points an M's
            likelihood could grow without bound.
    """
    if embed.shape[-1] == noise.shape[-1]:
        return embed + POINT_STD * noise
    mu, logvar = embed.chunk(2, -1)
    return mu + (logvar / 2).exp() * noise


def end_loss(logit: Tensor, ended: Tensor, weight: float) -> Tensor:
    """Cross-entropy of predicted ends (...,), in mean; steps that did end (`ended` = 1) weigh `weight` times."""
    return F.binary_cross_entropy_with_logits(logit, ended, 1 + (weight - 1) * ended)


def end_of(logit: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """A predicted end's calibrated probability, and the model's decision whether it comes.

    Ends weighed more in training (`end_loss`), so their odds are too high by that weight; the paper decides by them.
    """
    return torch.sigmoid(logit - math.log(weight)), logit > 0


def in_its_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """For a WorldModel's methods: they compute in the model's own precision."""

    @functools.wraps(method)
    def computed(self: WorldModel, *args: Any, **options: Any) -> Any:
        with autocast(self.starts.device, self.precision):
            return method(self, *args, **options)

    return computed
