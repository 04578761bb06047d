"""Dreams: a world model as an environment, many episodes as one batch.

A dream begins where a real episode began, with its first observation seen through V; or, if it is to be short, in the
midst of one, with all that happened until then in M's memory. From there on the model's own expectation, at temperature
tau, is all the world there is (CLASSIC 2.7).
"""

import torch
from torch import Tensor

from worldmodels.core.seeding import Noise, rng
from worldmodels.dreams.moments import shifted
from worldmodels.models.base import Dreamed, State, WorldModel
from worldmodels.models.perceive import Eyes
from worldmodels.models.worlds import check_worlds, worlds_of


class Dream:
    """Rows of dreams that go on side by side.

    Every seed is an episode with luck of its own; rows that dream the same seed meet the same start and the
    same noise, so that candidates can be compared.

    Args:
        model: what dreams.
        tau: temperature: above 1 the dream is less predictable than the world it was learnt from.
        sample_end: an episode ends with the predicted probability, calibrated for dreams; otherwise when the model
            decides so.
        midway: dreams begin at moments of real episodes, not where those began.
        dropout: share of z and h that is hidden from M, in every dream another (models/worlds.py).
        member: whose dreams they are, of an ensemble, counted from 0; None: each seed is that of one of them.

    Raises:
        UserError: if M was not trained with dropout, or has no such member.
    """

    def __init__(
        self,
        model: WorldModel,
        tau: float = 1.0,
        sample_end: bool = False,
        midway: bool = False,
        dropout: float = 0.0,
        member: int | None = None,
    ) -> None:
        check_worlds(model, dropout, member)
        self.model = model
        self.tau = tau
        self.sample_end = sample_end
        self.dropout = dropout
        self.member = member
        self._midway = midway
        self.device = model.starts.device
        self._episode = torch.zeros(0, dtype=torch.long, device=self.device)  # which one each row dreams
        self.state: State = {}

    def begin(self, seeds: list[int], copies: int = 1) -> None:
        """Starts `copies` x len(seeds) rows; row i dreams seed number i % len(seeds)."""
        self._meet(seeds, copies)
        self.state = self._start(seeds, self._episode, self.draw())

    def begin_from(self, state: State, seeds: list[int]) -> None:
        """Starts len(seeds) rows that dream on from `state`, whatever was seen before, with the luck of their seeds."""
        self._meet(seeds)
        self.state = self._in_worlds(state, seeds, self._episode)

    @torch.no_grad()
    def features(self, parts: tuple[str, ...]) -> Tensor:
        """float32 (B, F), what a controller gets."""
        return self.model.features(self.state, parts).float()

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """uint8 (B, 64, 64, 3), what is dreamt, for people."""
        return self.model.decode(self.state)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Advances all rows by `action` (B, A).

        Returns:
            reward float32 (B,) and terminated bool (B,).
        """
        self.state, reward, terminated = self.following(self.state, action, self.draw())
        return reward, terminated

    @torch.no_grad()
    def restart(self, seeds: dict[int, int]) -> None:
        """Begins other episodes in some rows, row -> seed; only for a dream begun with one copy."""
        first = Noise(list(seeds.values()), self.model.noise_size + 1, self.device).draw()
        for row, seed in seeds.items():
            self._noise.restart(row, seed, skip=1)
        fresh = self._start(list(seeds.values()), torch.arange(len(seeds), device=self.device), first)
        rows = torch.tensor(list(seeds), device=self.device)
        for name, value in self.state.items():
            value[rows] = fresh[name]

    @torch.no_grad()
    def following(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """What follows `state` by `action` with `noise` from `draw`: the next state, reward and terminated.

        Nothing else is looked at or changed, so that it can be captured as a CUDA graph.
        """
        dreamt = self.dreamt(state, action, noise)
        return dreamt.state, dreamt.reward, dreamt.terminated

    @torch.no_grad()
    def dreamt(self, state: State, action: Tensor, noise: Tensor) -> Dreamed:
        """The same, and how likely the end was: calibrated for dreams, if ends are sampled."""
        dreamt = self.model.imagine(state, action, noise[:, :-1], self.tau)
        if not self.sample_end:
            return dreamt
        end = shifted(dreamt.end, self.model.end_shift)
        return dreamt._replace(end=end, terminated=end > noise[:, -1])

    def draw(self) -> Tensor:
        """The next step's noise, float32 (B, N + 1)."""
        return self._noise.draw()[self._episode]

    def keep(self, rows: Tensor) -> None:
        """Only `rows` (indices) dream on."""
        self.state = {name: value[rows] for name, value in self.state.items()}
        self._episode = self._episode[rows]

    def _meet(self, seeds: list[int], copies: int = 1) -> None:
        """From now on rows meet the luck of these seeds."""
        size = self.model.noise_size + 1  # the last number decides sampled ends
        self._noise = Noise(seeds, size, self.device)
        self._episode = torch.arange(len(seeds), device=self.device).repeat(copies)

    def _start(self, seeds: list[int], episode: Tensor, noise: Tensor) -> State:
        """The first state of rows that dream seed number `episode` (B,) each."""
        if self._midway:
            there = self.model.moments
            chosen = self._chosen(seeds, len(next(iter(there.values()))))[episode]
            return self._in_worlds({name: value[chosen] for name, value in there.items()}, seeds, episode)
        # eyes open for one step: a real episode's first picture is seen, and nothing after it
        embed = self.model.starts[self._chosen(seeds, len(self.model.starts))]
        state = Eyes(self.model, len(episode)).see_code(embed[episode], noise[:, :-1])
        return self._in_worlds(state, seeds, episode)

    def _in_worlds(self, state: State, seeds: list[int], episode: Tensor) -> State:
        worlds = worlds_of(self.model, seeds, self.dropout, self.member)
        return state | {name: value[episode] for name, value in worlds.items()}

    def _chosen(self, seeds: list[int], count: int) -> Tensor:
        """Which of `count` beginnings each seed has."""
        return torch.tensor([int(rng(seed, "start").integers(count)) for seed in seeds], device=self.device)
