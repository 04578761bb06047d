"""What of each world model becomes a graph, and what is left to do between graphs: that is static/FAMILY.js.

Graphs hold all that is no matter of luck. Codes are drawn, and ends decided, outside of them, by whoever dreams.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.acting.actor import Actor
from worldmodels.core.errors import UserError
from worldmodels.models.base import State, Vision, WorldModel
from worldmodels.models.latent import MIN_STD, UNIMIX, Categorical
from worldmodels.models.mdnrnn import ClassicWorldModel
from worldmodels.models.recurrent import RSSMWorldModel
from worldmodels.web.graphs import Graph

EXAMPLES = 3  # rows of inputs, by which graphs are traced and compared with torch


@dataclass(frozen=True)
class Translated:
    """A world model without Python.

    Args:
        family: the name of static/FAMILY.js, which dreams by the graphs.
        facts: what that has to know beside them, as plain data.
        graphs: by the names of their files.
    """

    family: str
    facts: dict[str, Any]
    graphs: dict[str, Graph]


def translated(model: WorldModel, states: State) -> Translated:
    """A world model as graphs, and what to know beside them.

    Args:
        model: in fp32, on the CPU.
        states: some of its states, examples: they are repeated until they are a few.

    Raises:
        UserError: if its M is of a kind that has no translation.
    """
    few = torch.arange(EXAMPLES)
    states = {name: value[few % len(value)] for name, value in states.items()}
    if isinstance(model, ClassicWorldModel):
        family = _mdnrnn(model, states)
    elif isinstance(model, RSSMWorldModel):
        family = _rssm(model, states)
    else:
        raise UserError(
            f"{type(model).__name__} of your own cannot be exported: only an mdnrnn and an rssm have their "
            "sampling in JavaScript, too (docs/web.md)"
        )
    codes = model.starts[few % len(model.starts), : model.code_size]
    seen = {
        "encoder": Graph(_Encoder(model.vision), {"picture": model.vision.decode(codes)}, ("embed",)),
        "decoder": Graph(_Decoder(model.vision), {"code": codes}, ("picture",)),
    }
    return Translated(family.family, family.facts, family.graphs | seen)


def acting(actor: Actor, feat: Tensor) -> Graph:
    """An actor as a graph, from features to an action.

    Args:
        actor: with the numbers that it acts by.
        feat: float32 (B, F), some features.
    """
    rows = torch.arange(EXAMPLES) % len(feat)
    return Graph(_Acts(actor), {"feat": feat[rows]}, ("action",))


def _actions(model: WorldModel, states: State) -> Tensor:
    """Examples of actions, one for each state, that differ."""
    rows = len(next(iter(states.values())))
    return torch.linspace(-1, 1, rows * model.action_size).reshape(rows, model.action_size)


class _Encoder(nn.Module):
    """Pictures uint8 (B, 64, 64, 3) to embeddings (B, E)."""

    def __init__(self, vision: Vision[Any]) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, picture: Tensor) -> Tensor:
        return self.vision.encode(picture)


class _Decoder(nn.Module):
    """Codes (B, Z) to pictures uint8 (B, 64, 64, 3)."""

    def __init__(self, vision: Vision[Any]) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, code: Tensor) -> Tensor:
        return self.vision.decode(code)


class _Acts(nn.Module):
    """Features (B, F) to actions (B, A) in [-1, 1]."""

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, feat: Tensor) -> Tensor:
        return self.actor.actions.best(self.actor(feat))


# The MDN-RNN: one graph.


def _mdnrnn(model: ClassicWorldModel, states: State) -> Translated:
    settings = model.memory.settings
    facts = {
        "code_size": model.code_size,
        "action_size": model.action_size,
        "noise_size": model.noise_size,
        "mixtures": settings.mixtures,
        "termination_weight": settings.termination_weight,
    }
    inputs = {"z": states["z"], "action": _actions(model, states)} | {
        name: states[name] for name in ("first", "h", "c")
    }
    step = Graph(_MDNRNNStep(model), inputs, ("next_h", "next_c", "mixture", "reward", "end"))
    return Translated("mdnrnn", facts, {"memory": step})


class _MDNRNNStep(nn.Module):
    """All of a step but the draw of a code."""

    def __init__(self, model: ClassicWorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, action: Tensor, first: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        return self.model.expected({"z": z, "first": first, "h": h, "c": c}, action)


# The RSSM: a graph before z is drawn, and one after.


def _rssm(model: RSSMWorldModel, states: State) -> Translated:
    latent = model.memory.rssm.latent
    facts = {
        "action_size": model.action_size,
        "noise_size": model.noise_size,
        "groups": latent.groups if isinstance(latent, Categorical) else latent.size,
        "classes": latent.classes if isinstance(latent, Categorical) else 0,  # 0: Gaussians
        "unimix": UNIMIX,
        "least_std": MIN_STD,
        "termination_weight": model.memory.settings.termination_weight,
    }
    z = states["z"]
    h = states["h"]
    graphs = {
        "memory": Graph(_RSSMStep(model), {"z": z, "action": _actions(model, states), "h": h}, ("next_h", "stats")),
        "heads": Graph(_RSSMHeads(model), {"z": z, "h": h}, ("reward", "end", "code", "projection")),
    }
    return Translated("rssm", facts, graphs)


class _RSSMStep(nn.Module):
    """The next h, and the stats that z is drawn from."""

    def __init__(self, model: RSSMWorldModel) -> None:
        super().__init__()
        self.rssm = model.memory.rssm

    def forward(self, z: Tensor, action: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.rssm.advance(z, action, h)
        return h, self.rssm.prior(h)


class _RSSMHeads(nn.Module):
    """What there is to say of a state: reward, end, the code that V would see, HRSSM's projection."""

    def __init__(self, model: RSSMWorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        feat = torch.cat([z, h], -1)
        code, _ = self.model.memory.code(feat)
        projection = F.normalize(self.model.memory.rssm.projection(feat), dim=-1)
        return *self.model.expected(z, h), code, projection
