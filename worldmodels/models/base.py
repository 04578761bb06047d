"""The contracts: what a world model is to those who use it, and what a module is to the loop that trains it."""

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from worldmodels.core.device import autocast
from worldmodels.data.source import Wanted
from worldmodels.models.heads import RewardHead
from worldmodels.settings.models import MemorySettings, ModelSettings, name_of

State = dict[str, Tensor]
"""Where a model is in time. Every tensor is batch first; only the model looks inside."""
S = TypeVar("S", bound=ModelSettings)
M = TypeVar("M", bound=MemorySettings)


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
    worlds: int  # how many numbers (Z + H) a dropout world may hide from it; 0 if it was not trained to stand that
    members: int  # of an ensemble, each of which expects something else; 1 if it is none
    rewardless: bool  # whether its dreams pay nothing, so that nothing can be learnt in them
    precision: str  # of its matrix products: bf16 or fp32
    starts: Tensor  # (S, E) embeddings of first observations of real episodes: where dreams begin
    moments: State  # states in the midst of real episodes: where short dreams begin; empty if none were kept
    end_shift: float  # nats, added to the logit of ends that are sampled in dreams (dreams/moments.py)

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

        Where gradients are enabled they pass from all that comes to `state` and `action`: an actor learns by them.

        On a GPU this and `features` become one CUDA graph, so they must ask the host for no value.
        """
        ...

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        """float32 (B, F): the named parts of `feat_sizes`, in that order. All that a controller ever gets."""
        ...

    def decode(self, state: State) -> Tensor:
        """uint8 (B, 64, 64, 3): the state as a picture, for people."""
        ...


def in_its_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """For a WorldModel's methods: they compute in the model's own precision."""

    @functools.wraps(method)
    def computed(self: WorldModel, *args: Any, **options: Any) -> Any:
        with autocast(self.starts.device, self.precision):
            return method(self, *args, **options)

    return computed


class Experience(Protocol):
    """What a model may ask about the data that it will learn from, before it is made (data/rollouts.py)."""

    @property
    def action_size(self) -> int:
        """A."""
        ...

    def rewards(self, percentiles: Sequence[float]) -> list[float]:
        """Percentiles of all rewards; 0 and 100 are the lowest and the highest."""
        ...

    def reward_moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        ...


class Trainable(nn.Module, abc.ABC, Generic[S]):
    """A module that stages 2 and 3 train, save and open again: every V and every M.

    Its constructor takes `settings`, of a dataclass of its own, and whatever else it takes to make it again with the
    same shapes, which it keeps in attributes of the same names.
    """

    def __init__(self, settings: S) -> None:
        super().__init__()
        self.settings = settings

    @property
    def family(self) -> str:
        """What it is called in files and on the command line."""
        return name_of(type(self))

    @property
    def config(self) -> dict[str, Any]:
        """All that its constructor takes, as plain data: its settings, and then what it was told besides."""
        told = [name for name in inspect.signature(type(self)).parameters if name != "settings"]
        return dataclasses.asdict(self.settings) | {name: getattr(self, name) for name in told}

    @property
    def rows_per_share(self) -> int:
        """How many rows of a batch are worth a process of their own, for their part of the gradient; 0: none are.

        Where it is not 0, workers make the module anew by its config, and take its state_dict as it is before every
        step. `loss` must be a mean over rows, ask for the same parameters in each batch, and leave buffers as they are.
        """
        return 0

    @classmethod
    def from_config(cls, settings: type[S], config: dict[str, Any]) -> Self:
        """One as `config` tells, with the weights of a new one. Settings that it does not tell of are as usual.

        Raises:
            TypeError: if it tells of others than there are.
        """
        own = {field.name for field in dataclasses.fields(settings)}
        asked = {name: value for name, value in config.items() if name in own}
        told: dict[str, Any] = {name: value for name, value in config.items() if name not in own}
        return cls(settings(**asked), **told)

    @property
    @abc.abstractmethod
    def wants(self) -> Wanted:
        """Which batches it learns from: Frames, Chunks or Sequences, each in the file of its name in data/."""

    @abc.abstractmethod
    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """The loss, the numbers that a person wants to see, and what the next batch is to be given as `carry`."""

    def after_step(self) -> None:
        """Called after each gradient step."""

    def take_over(self, other: Self) -> None:
        """Begins with the weights of another of its kind and sizes, which may have learnt from data paid otherwise."""
        self.load_state_dict(other.state_dict())
        for mine, theirs in zip(self.modules(), other.modules(), strict=True):
            if isinstance(mine, RewardHead) and isinstance(theirs, RewardHead):
                mine.take_over(theirs)


class Vision(Trainable[S]):
    """V: pictures to codes, and back for people."""

    code_size: int  # Z
    embed_size: int  # E: 2Z where a code is a mean and a variance, else Z

    @classmethod
    @abc.abstractmethod
    def build(cls, settings: S, data: Experience) -> Self:
        """A new one, to learn from `data`."""

    @abc.abstractmethod
    def encode(self, obs: Tensor) -> Tensor:
        """uint8 (..., 64, 64, 3) -> float32 (..., E)."""

    @abc.abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """float32 (..., Z) -> uint8 (..., 64, 64, 3)."""

    def doubt(self, held_out: Mapping[str, float]) -> str:
        """What a person must know before believing in it, by its losses on held-out data; "" if nothing."""
        return ""

    @property
    def recurrence(self) -> object:
        """The recurrent model that it was trained with, for an M that can go on from it; else None."""
        return None


class Memory(Trainable[M]):
    """M: what follows from a code and an action, on the codes of any V."""

    code_size: int  # Z, of V
    action_size: int  # A

    @classmethod
    @abc.abstractmethod
    def build(cls, settings: M, data: Experience, vision: Vision[Any]) -> Self:
        """A new one, to learn from `data` as `vision` sees it.

        Raises:
            UserError: if it cannot learn from such codes.
        """

    @classmethod
    def settled(cls, settings: M, usual: M, vision: Vision[Any]) -> M:
        """The settings as they will be on codes of `vision`.

        Args:
            settings: what was asked for.
            usual: what they are where nobody asks for anything.
            vision: a V, trained.

        Raises:
            UserError: if what was asked for cannot be.
        """
        return settings

    @abc.abstractmethod
    def paired(self, vision: Vision[Any], starts: Tensor, precision: str) -> "Pairing":
        """It and a V as one WorldModel. `starts` (S, E) are where dreams begin; `precision` is bf16 or fp32."""


class Pairing(nn.Module, WorldModel):
    """Any V with an M: what all WorldModels that are made of two have in common.

    Their methods compute in `precision`: `in_its_precision` stands before each.
    """

    starts: Tensor

    def __init__(self, vision: Vision[Any], memory: Memory[Any], starts: Tensor, precision: str) -> None:
        super().__init__()
        self.vision = vision
        self.memory = memory
        self.precision = precision
        self.register_buffer("starts", starts, persistent=False)
        self.action_size = memory.action_size
        self.code_size = vision.code_size
        self.worlds = 0
        self.members = 1
        self.rewardless = memory.settings.reward == "none"
        self.moments: State = {}
        self.end_shift = 0.0

    @in_its_precision
    def encode(self, obs: Tensor) -> Tensor:
        return self.vision.encode(obs)
