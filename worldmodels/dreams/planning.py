"""Planning in the dream: many sequences of actions are tried from a state on, and the first action of what served best
is done. Nothing is trained.

Three searches, alike but for what they make of the candidates' values:

    cem    the cross-entropy method: mean and spread of the best few (Rubinstein 1999; in learnt models PlaNet, Hafner
           et al. 2019, arXiv 1811.04551, algorithm 2)
    icem   the same, sample-efficient (Pinneri et al. 2020, arXiv 2008.06389, algorithm 1): noise that holds to a
           direction, fewer candidates each time, the best are kept, also for the next decision, and the very best acts
    mppi   model predictive path integral: the mean of all, each weighed by the exponential of its value (Williams et
           al. 2017, arXiv 1707.02342, algorithm 2)

A plan is worth what it is expected to be paid while it lives. Where M knows a probability, that is used and nothing is
drawn: a step counts by the chance that the episode has not ended before it. A dream goes on the same whether its end
was drawn or not, so this is the mean of what drawing would give, given all that is dreamt, and by the law of total
variance it differs less from luck to luck: a drawn end of 2 % is seldom seen at all. Codes are drawn, for what a code
leads to has no mean that M could tell; and alike for all candidates (common random numbers), so that what is left of
luck cancels where plans are compared.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodels.core.seeding import SMALLEST
from worldmodels.dreams.dream import Dream
from worldmodels.models.base import State, WorldModel
from worldmodels.models.worlds import MEMBER
from worldmodels.settings.planning import ByPlan

# Of icem, as its authors have them.
KEPT = 0.3  # share of the elites that are tried again
DECAY = 1.25  # as often as before are candidates, at each later time
MOMENTUM = 0.1  # share of the mean before in the mean after


class Plans(NamedTuple):
    """What B rows mean to do, H steps ahead: what a decision leaves to the next."""

    mean: Tensor  # float32 (B, H, A)
    kept: Tensor  # float32 (B, K, H, A): the best that were tried, the very best first; K is 0 but for icem


class Tried(NamedTuple):
    """P candidates for each of B rows, the best first."""

    plans: Tensor  # float32 (B, P, H, A)
    values: Tensor  # float32 (B, P)


class Planner:
    """Decides for many rows at once, and remembers nothing: what it goes on from, it is given.

    Args:
        model: any WorldModel whose dreams pay.
        settings: of the search.

    Raises:
        ValueError: if the settings name no search, or the dreams pay nothing.
    """

    def __init__(self, model: WorldModel, settings: ByPlan) -> None:
        if settings.plan not in UPDATES:
            raise ValueError(f"plan {settings.plan!r} names no search; give one of {', '.join(UPDATES)}")
        if model.rewardless:
            raise ValueError("this M's dreams pay nothing, so no plan is better than another")
        self._model = model
        self._settings = settings
        self._dream = Dream(model, settings.plan_tau, sample_end=True)  # for its ends, which are calibrated for dreams
        self._elites = max(2, round(settings.plan_elites * settings.plan_candidates))
        self._kept = math.ceil(KEPT * self._elites) if settings.plan == "icem" else 0

    def idle(self, rows: int) -> Plans:
        """The plans of rows that have none yet: to do nothing."""
        shape = (self._settings.plan_horizon, self._model.action_size)
        zeros = torch.zeros(rows, self._kept + 1, *shape, device=self._dream.device)
        return Plans(zeros[:, 0], zeros[:, 1:])

    def decide(self, state: State, before: Plans, luck: list[np.random.Generator]) -> tuple[Tensor, Plans]:
        """What to do in each of B rows.

        Args:
            state: of the model, B rows.
            before: what the decision a step ago left, or `idle`.
            luck: of each row. What a row decides depends on nothing else: not on the rows beside it.

        Returns:
            Actions float32 (B, A), and what the next decision is to be given.
        """
        alone = self._dream.device.type == "cpu"  # as fast there, and sums are rounded as if each row were the only one
        parts = [slice(row, row + 1) for row in range(len(luck))] if alone else [slice(None)]
        found = [
            self._search({name: value[rows] for name, value in state.items()}, _of(before, rows), luck[rows])
            for rows in parts
        ]
        plans = Plans(*map(torch.cat, zip(*found, strict=True)))
        first = plans.kept[:, 0] if self._kept else plans.mean
        return first[:, 0], plans

    def _search(self, state: State, before: Plans, luck: list[np.random.Generator]) -> Plans:
        """The plans of rows, dreamt side by side."""
        settings = self._settings
        plans = Plans(*map(shifted, before))
        std = torch.full_like(plans.mean, settings.plan_spread)
        update = UPDATES[settings.plan]
        for time in range(settings.plan_iterations):
            count = self._count(time)
            candidates = self._candidates(plans, std, count, luck)
            values = self.values(state, candidates, self._noise(luck))
            ranked = values.sort(dim=1, descending=True, stable=True)
            tried = Tried(_chosen(candidates, ranked.indices), ranked.values)
            mean, std = update(tried, plans.mean, std, settings, min(self._elites, count))
            plans = Plans(mean, tried.plans[:, : self._kept])
        return plans

    @torch.no_grad()
    def values(self, state: State, plans: Tensor, noise: Tensor) -> Tensor:
        """What plans are worth, in mean over their dreams: float32 (B, P).

        With s_t for the chance of being alive before step t and r_t for its reward, that is the sum of s_t r_t over the
        horizon, and `plan_tail` steps more for those who live to see its end, paid as a step was on the way.

        Args:
            state: of the model, B rows.
            plans: float32 (B, P, H, A).
            noise: float32 (B, S, H, N + 1) in (0, 1), of S dreams of each plan: of all P the same.
        """
        rows, count, horizon, _ = plans.shape
        dreams = noise.shape[1]
        state = {name: value.repeat_interleave(count * dreams, 0) for name, value in state.items()}
        if self._model.members > 1:  # the last number of a dream's luck would draw its end, and no end is drawn here
            whose = (noise[:, :, 0, -1] * self._model.members).floor()
            state[MEMBER] = whose.repeat(1, count).flatten().unsqueeze(1)
        action = plans.repeat_interleave(dreams, 1).flatten(0, 1)
        alive = torch.ones(len(action), device=action.device)
        lived = torch.zeros_like(alive)
        paid = torch.zeros_like(alive)
        for t in range(horizon):
            drawn = noise[:, :, t].repeat(1, count, 1).flatten(0, 1)
            dreamt = self._dream.dreamt(state, action[:, t], drawn)
            state = dreamt.state
            paid += alive * dreamt.reward
            lived += alive
            alive *= 1 - dreamt.end
        worth = paid + self._settings.plan_tail * alive * paid / lived
        found: Tensor = worth.unflatten(0, (rows, count, dreams)).mean(-1)
        return found

    def _count(self, time: int) -> int:
        """Candidates of one time; icem has fewer later, but twice the elites at least."""
        count = self._settings.plan_candidates
        if self._settings.plan != "icem":
            return count
        return max(round(count / DECAY**time), min(count, 2 * self._elites))

    def _candidates(self, plans: Plans, std: Tensor, count: int, luck: list[np.random.Generator]) -> Tensor:
        """float32 (B, P, H, A): the plan as it is, those that were kept, and others around the plan."""
        mean = plans.mean.unsqueeze(1)
        horizon, size = plans.mean.shape[1:]
        drawn = count - 1 - self._kept
        normal = np.stack([each.standard_normal((drawn, 2 * horizon, size), np.float32) for each in luck])
        noise = coloured(torch.from_numpy(normal), self._settings.plan_colour).to(mean.device)
        return torch.cat([mean, plans.kept, mean + std.unsqueeze(1) * noise], 1).clamp(-1, 1)

    def _noise(self, luck: list[np.random.Generator]) -> Tensor:
        """float32 (B, S, H, N + 1) in (0, 1)."""
        shape = (self._settings.plan_rollouts, self._settings.plan_horizon, self._model.noise_size + 1)
        drawn = np.stack([each.random(shape, np.float32) for each in luck])
        return torch.from_numpy(np.maximum(drawn, SMALLEST)).to(self._dream.device)


Update = Callable[[Tried, Tensor, Tensor, ByPlan, int], tuple[Tensor, Tensor]]
"""(what was tried, mean, std, settings, elites) -> the next mean and std, float32 (B, H, A) each."""


def _cem(tried: Tried, mean: Tensor, std: Tensor, settings: ByPlan, elites: int) -> tuple[Tensor, Tensor]:
    best = tried.plans[:, :elites]
    return best.mean(1), best.std(1, correction=0)


def _icem(tried: Tried, mean: Tensor, std: Tensor, settings: ByPlan, elites: int) -> tuple[Tensor, Tensor]:
    found = _cem(tried, mean, std, settings, elites)
    return found[0].lerp(mean, MOMENTUM), found[1].lerp(std, MOMENTUM)


def _mppi(tried: Tried, mean: Tensor, std: Tensor, settings: ByPlan, elites: int) -> tuple[Tensor, Tensor]:
    scale = settings.plan_softness * tried.values.std(1, correction=0, keepdim=True)
    weights = torch.softmax((tried.values - tried.values[:, :1]) / scale.clamp_min(1e-12), 1)
    return torch.einsum("bp,bpha->bha", weights, tried.plans), std


UPDATES: dict[str, Update] = {"cem": _cem, "icem": _icem, "mppi": _mppi}


def shifted(plans: Tensor) -> Tensor:
    """Plans (..., H, A) a step on; the last action is held."""
    return torch.cat([plans[..., 1:, :], plans[..., -1:, :]], -2)


def coloured(normal: Tensor, colour: float) -> Tensor:
    """Noise (..., H, A) of variance 1 whose power falls with frequency as f^-colour, from normal numbers (..., 2H, A).

    White noise goes through a filter with a period of twice the horizon, so that a plan's end knows nothing of its
    beginning.
    """
    return torch.einsum("th,...ta->...ha", _filter(normal.shape[-2], colour), normal)


@functools.lru_cache(maxsize=8)
def _filter(period: int, colour: float) -> Tensor:
    """float32 (2H, H), whose columns have length 1."""
    frequency = np.fft.rfftfreq(period).clip(1 / period)
    response = np.fft.irfft(frequency ** (-colour / 2), period)
    response /= np.linalg.norm(response)
    lag = np.arange(period)[:, None] - np.arange(period // 2)
    return torch.from_numpy(response[lag % period].astype(np.float32))


def _chosen(plans: Tensor, order: Tensor) -> Tensor:
    """Of each row's plans (B, P, H, A) those in `order` (B, Q)."""
    return plans.gather(1, order[..., None, None].expand(-1, -1, *plans.shape[2:]))


def _of(plans: Plans, rows: slice) -> Plans:
    return Plans(*(part[rows] for part in plans))
