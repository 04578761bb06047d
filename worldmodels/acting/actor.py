"""A C that is trained instead of evolved: a network that all rows share (HRSSM 4)."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from worldmodels.acting.actions import Actions, Choices, Numbers
from worldmodels.models.heads import mlp

FARTHEST = 5.0  # standard deviations from the mean that a feature may be
LEAST = 1e-4  # of its size, that a feature has to vary by


class Scaled(nn.Module):
    """Features about their mean, in standard deviations: those of a memory differ a hundredfold in size.

    Both are numbers of the actor like its weights, but nothing trains them.

    Args:
        size: F.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.std = nn.Parameter(torch.ones(size), requires_grad=False)

    def settle(self, feat: Tensor) -> None:
        """Takes mean and standard deviation of these features (N, F); one that hardly varies keeps its size."""
        self.mean.copy_(feat.mean(0))
        std = feat.std(0)
        self.std.copy_(torch.where(std > LEAST * (1 + self.mean.abs()), std, 1.0))

    def forward(self, feat: Tensor) -> Tensor:
        """Features (..., F)."""
        return ((feat - self.mean) / self.std).clamp(-FARTHEST, FARTHEST)


class Actor(nn.Module):
    """Features to stats of actions, by layers without bias, each with LayerNorm and SiLU, and a linear one.

    It acts by the same calls as a Controller (controller.py). Its numbers are too many for each row to bring its own,
    so it keeps those that `given` shows it, and rows are given nothing.

    Args:
        feat_size: F.
        action_size: A.
        units, layers: of the network.
        choices: the actions to choose from, A numbers each; none, if actions are numbers about a mean.
        scaled: whether features are scaled before; `self.scaled.settle` says how.

    Raises:
        ValueError: if a choice has not A numbers.
    """

    def __init__(
        self,
        feat_size: int,
        action_size: int,
        units: int = 512,
        layers: int = 2,
        choices: tuple[tuple[float, ...], ...] = (),
        scaled: bool = False,
    ) -> None:
        super().__init__()
        if odd := [choice for choice in choices if len(choice) != action_size]:
            raise ValueError(f"a choice has {len(odd[0])} numbers, but an action {action_size}")
        self.actions: Actions = Choices(choices) if choices else Numbers(action_size)
        self.feat_size = feat_size
        self.action_size = action_size
        self.scaled = Scaled(feat_size) if scaled else nn.Identity()
        self.net = mlp(feat_size, units, layers, self.actions.stats_size)
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.xavier_uniform_(last.weight)  # Dreamer's: uniform, by the mean of inputs and outputs
        nn.init.zeros_(last.bias)
        self.num_params = sum(parameter.numel() for parameter in self.parameters())

    def forward(self, feat: Tensor) -> Tensor:
        """Stats (..., D) of actions at features (..., F)."""
        stats: Tensor = self.net(self.scaled(feat))
        return stats

    def params(self) -> Tensor:
        """Its numbers, float32 (D,)."""
        return parameters_to_vector(self.parameters()).detach()

    @torch.no_grad()
    def given(self, params: Tensor) -> Tensor:
        """Takes over the numbers of one actor (1, D), in place. Returns what rows are given to act by: nothing, (1, 0).

        Raises:
            ValueError: if there are several.
        """
        if len(params) != 1:
            raise ValueError(f"an actor acts for all rows, by one set of numbers; got {len(params)}")
        self.to(params.device)
        used = 0
        for parameter in self.parameters():
            parameter.copy_(params[0, used : used + parameter.numel()].view_as(parameter))
            used += parameter.numel()
        return params[:, :0]

    @torch.no_grad()
    def act(self, given: Tensor, feat: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1]: the mean, or the likeliest; `given` is what `given` returned."""
        return self.actions.best(self(feat))
