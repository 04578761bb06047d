"""A world whose every step can be written down, and an actor and a critic in it."""

import torch
from torch import Tensor

from worldmodels.acting.actor import Actor
from worldmodels.learners.actor_critic import ActorCritic
from worldmodels.learners.ppo_dreams import DreamPPO
from worldmodels.models.base import Dreamed, State
from worldmodels.settings.learners.actor_critic import ActorCriticSettings
from worldmodels.settings.learners.ppo import PPOSettings

TINY = ActorCriticSettings(units=8, layers=1, batch_size=6, imagine=5, starts=9, learning_rate=1e-2)
TINY_PPO = PPOSettings(
    updates=4, rows=7, decisions=5, hold=3, units=8, layers=1, batch_size=35, epochs=1, learning_rate=1e-2, discount=0.9
)
SIZE = 3
NEAR = slice(103, 152)  # of a critic's values, those between -43 and 43


class Pond:
    """x' = 0.9 x + 0.5 (a1, a1, a2) + 0.2 (noise - 1/2); pays 1 - |x'|^2; may end where the sum of x' is large."""

    action_size = 2
    noise_size = 1
    starts = torch.zeros(1, 1)
    worlds = 0
    members = 1

    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        x = pond(state["x"], action, noise)
        return Dreamed({"x": x}, 1 - (x**2).sum(-1), torch.sigmoid(x.sum(-1) - 2), x.sum(-1) > 2)

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return torch.cat([state[part] for part in parts], -1)


def pond(x: Tensor, action: Tensor, noise: Tensor) -> Tensor:
    return 0.9 * x + 0.5 * action[:, [0, 0, 1]] + 0.2 * (noise - 0.5)


def learner(settings: ActorCriticSettings = TINY, choices: tuple = (), seed: int = 3, wild: bool = True) -> ActorCritic:
    """A new one in the pond; `wild`, with a critic that has opinions from the start."""
    torch.manual_seed(seed)
    starts = {"x": torch.randn(settings.starts, SIZE)}
    actor = Actor(SIZE, 2, settings.units, settings.layers, choices)
    made = ActorCritic(Pond(), actor, ("x",), starts, settings, seed)  # type: ignore[arg-type]
    if wild:
        for head in (made.critic, made.slow):
            torch.nn.init.normal_(head.net[-1].weight, std=0.5)
    return made


class Shore(Pond):
    """The pond, with moments to begin at."""

    def __init__(self) -> None:
        self.moments = {"x": torch.randn(9, SIZE, generator=torch.Generator().manual_seed(5))}


def ppo(settings: PPOSettings = TINY_PPO, choices: tuple = (), longest: int = 1000) -> DreamPPO:
    """A new one at the shore, with a critic that has opinions from the start."""
    torch.manual_seed(3)
    actor = Actor(SIZE, 2, settings.units, settings.layers, choices)
    made = DreamPPO(Shore(), actor, ("x",), settings, 3, longest=longest)  # type: ignore[arg-type]
    last = made.critic.net[-1]
    torch.nn.init.normal_(last.weight[NEAR], std=0.5)
    torch.nn.init.constant_(last.bias, -40.0)
    torch.nn.init.zeros_(last.bias[NEAR])
    return made
