"""A world model with its eyes open: a step at a time, or along whole episodes. Whoever sees does so by this."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from worldmodels.core.seeding import Noise
from worldmodels.models.base import State, WorldModel


class Eyes:
    """Episodes that are seen side by side, from their first pictures on.

    At each step a picture is seen; then what is done is told, and `keep` may let rows go whose episodes are over.

    Args:
        model: any WorldModel.
        rows: B, the number of episodes.
    """

    def __init__(self, model: WorldModel, rows: int) -> None:
        self._model = model
        self._device = model.starts.device
        self._action = torch.zeros(rows, model.action_size, device=self._device)
        self._is_first = 1.0
        self.state: State = model.initial(rows)

    @torch.no_grad()
    def see(self, obs: Tensor, noise: Tensor) -> State:
        """The state that has seen `obs` too, uint8 (B, 64, 64, 3); noise is float32 (B, N) in (0, 1)."""
        return self.see_code(self._model.encode(obs.to(self._device)), noise)

    @torch.no_grad()
    def see_code(self, embed: Tensor, noise: Tensor) -> State:
        """The same where V has seen already: `embed` is float32 (B, E)."""
        is_first = torch.full((len(embed), 1), self._is_first, device=self._device)
        self.state = self._model.observe(self.state, self._action, embed.to(self._device), is_first, noise)
        self._is_first = 0.0
        return self.state

    def did(self, action: Tensor) -> None:
        """What was done, float32 (B, A), after what was seen last."""
        self._action = action.to(self._device)

    @torch.no_grad()
    def features(self, parts: tuple[str, ...]) -> Tensor:
        """float32 (B, F), the named parts of the state."""
        return self._model.features(self.state, parts)

    def keep(self, rows: Tensor) -> None:
        """Only `rows` (indices, on the CPU) go on."""
        rows = rows.to(self._device)
        self.state = {name: value[rows] for name, value in self.state.items()}
        self._action = self._action[rows]


def perceive(model: WorldModel, embeds: Sequence[Tensor], actions: Sequence[Tensor], noise: Noise) -> Iterator[State]:
    """The state of all episodes, side by side, at every step.

    Args:
        model: any WorldModel.
        embeds: of each episode, float32 (T+1, E): what V makes of its frames.
        actions: of each episode, float32 (T, A): what was done.
        noise: with a row for each.

    Yields:
        The state that has seen frames 0 to t, for t = 0 .. the longest T. A shorter episode is shown its last frame for
        ever; its rows mean nothing then.
    """
    eyes = Eyes(model, len(embeds))
    for t in range(max(map(len, embeds))):
        yield eyes.see_code(rows_at(embeds, t), noise.draw())
        eyes.did(rows_at(actions, t))


def rows_at(series: Sequence[Tensor], t: int) -> Tensor:
    """Row `t` of each, its last one where it is over: (B, ...)."""
    return torch.stack([each[min(t, len(each) - 1)] for each in series])
