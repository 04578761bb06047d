"""Dreams played to their ends: the one loop, for whoever scores, measures or films them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodels.acting.controller import Acts
from worldmodels.dreams.capture import Captured
from worldmodels.dreams.dream import Dream
from worldmodels.models.base import State, WorldModel

Act = Callable[[State, Tensor], Tensor]
"""Actions (B, A) of rows in a state, by what each was given (B, D). Asks the host for nothing."""
Given = Tensor | Callable[[int], Tensor]
"""What each row acts by, (B, D): the same at every step, or what step 0, 1, ... brings."""
Watch = Callable[[int, State], None]
"""Called with (step, state) before each step."""
COMPACT = 0.9  # when fewer rows than this share still dream, those that ended leave the batch
RECORDED = "cuda"  # devices whose steps are recorded
LOOK = 16  # steps between looks, there, at who still dreams


class Lives(NamedTuple):
    """What became of B dreams, float64 (B,)."""

    returns: Tensor
    lengths: Tensor


def by_controller(model: WorldModel, controller: Acts, inputs: tuple[str, ...]) -> Act:
    """Rows are given what the controller says (`given`), and act by the parts `inputs` of the features."""
    return lambda state, given: controller.act(given, model.features(state, inputs).float())


def by_itself(state: State, action: Tensor) -> Tensor:
    """Rows are given their actions, whatever they dream."""
    return action


class Player:
    """Plays a batch of dreams to its end.

    Args:
        dream: the world.
        act: who acts in it.
        max_steps: a dream that lasts as long ends there.
        lean: for many rows that nobody watches. Rows that have ended leave the batch; on a GPU a step, `act`
            included, is one CUDA graph, and the host looks only now and then who still dreams. Else all rows
            stay, so that not even rounding depends on who ends when.
    """

    def __init__(self, dream: Dream, act: Act, max_steps: int, lean: bool = False) -> None:
        self.dream = dream
        self._max_steps = max_steps
        self._lean = lean
        self.records = lean and dream.device.type == RECORDED
        self.advance = functools.partial(_advance, dream, act)
        self.step = Captured(self.advance) if self.records else self.advance

    @torch.no_grad()
    def play(self, seeds: list[int], given: Given, copies: int = 1, watch: Watch | None = None) -> Lives:
        """Dreams `copies` x len(seeds) rows, in the order of `Dream.begin`."""
        dream = self.dream
        dream.begin(seeds, copies)
        batch = _Batch(copies * len(seeds), given, dream.device)
        for step in range(self._max_steps):
            if watch:
                watch(step, dream.state)
            dream.state, batch.given, batch.alive, batch.paid, batch.lasted = self.step(
                dream.state, batch.given_at(step), batch.alive, batch.paid, batch.lasted, dream.draw()
            )
            if self.records and (step + 1) % LOOK:
                continue
            alive = int(batch.alive.sum())
            if alive == 0:
                break
            self._thin(batch, alive)
        return batch.lives()

    def _thin(self, batch: "_Batch", count: int) -> None:
        """Rows that have ended leave, if they are many: `count` have not."""
        if self.records:  # few sizes, for each is recorded
            count = min(len(batch.alive), 2 ** (count - 1).bit_length())
        if self._lean and count < COMPACT * len(batch.alive):
            self.dream.keep(batch.keep(count))


class _Batch:
    """The rows that still dream, and what became of all."""

    def __init__(self, size: int, given: Given, device: torch.device) -> None:
        self._returns = torch.zeros(size, dtype=torch.float64, device=device)
        self._lengths = torch.zeros_like(self._returns)
        self._brings = given if callable(given) else None
        self.rows = torch.arange(size, device=device)  # the dreams still in the batch
        self.given = torch.zeros(0) if callable(given) else given
        self.alive = torch.ones_like(self.rows, dtype=torch.bool)
        self.paid = self._returns.clone()
        self.lasted = self._lengths.clone()

    def given_at(self, step: int) -> Tensor:
        return self._brings(step)[self.rows] if self._brings else self.given

    def keep(self, count: int) -> Tensor:
        """Which `count` rows stay, the living ones first; the others' sums are written down."""
        self._write_down()
        left = self.alive.long().argsort(descending=True, stable=True)[:count]
        self.rows, self.given, self.alive, self.paid, self.lasted = (
            x[left] for x in (self.rows, self.given, self.alive, self.paid, self.lasted)
        )
        return left

    def lives(self) -> Lives:
        self._write_down()
        return Lives(self._returns, self._lengths)

    def _write_down(self) -> None:
        self._returns[self.rows] = self.paid
        self._lengths[self.rows] = self.lasted


def _advance(
    dream: Dream,
    act: Act,
    state: State,
    given: Tensor,
    alive: Tensor,
    paid: Tensor,
    lasted: Tensor,
    noise: Tensor,
) -> tuple[State, Tensor, Tensor, Tensor, Tensor]:
    """One step of all rows; a row that ends is paid for its last step."""
    state, reward, terminated = dream.following(state, act(state, given), noise)
    return state, given, alive & ~terminated, paid + reward * alive, lasted + alive
