"""An agent that plans: V sees, M remembers, and what to do is found in M's dreams."""

import time

import numpy as np
import torch
from torch import Tensor

from worldmodels.core.seeding import Noise, rng
from worldmodels.data.episode import OBS_SHAPE
from worldmodels.dreams.planning import Planner, Plans
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import Eyes
from worldmodels.settings.planning import ByPlan

MEASURED = 5  # decisions that tell how long one takes


class PlanningAgent:
    """An Agent (acting/agents.py) without a controller.

    Rows see and plan one by one, each by its own seed and step, so that what one does depends to the bit on nobody
    beside it.

    Args:
        model: any WorldModel whose dreams pay.
        settings: of the search.

    Raises:
        ValueError: as Planner does.

    Attributes:
        decisions: how many actions it has decided on.
        seconds: how long that took, seeing included.
    """

    sees = True

    def __init__(self, model: WorldModel, settings: ByPlan) -> None:
        self.model = model
        self._planner = Planner(model, settings)
        self.decisions = 0
        self.seconds = 0.0

    def begin(self, seeds: list[int]) -> None:
        self._seeds = seeds
        self._noise = Noise(seeds, self.model.noise_size, self.model.starts.device)  # the luck of any agent that sees
        self._eyes = [Eyes(self.model, 1) for _ in seeds]
        self._plans = [self._planner.idle(1) for _ in seeds]
        self._rows = list(range(len(seeds)))

    @property
    def state(self) -> State:
        """Of the rows that still play: what they have seen and done."""
        return _together([self._eyes[row].state for row in self._rows])

    def act(self, obs: list[np.ndarray], rows: list[int], step: int) -> np.ndarray:
        began = time.perf_counter()
        self._rows = rows
        noise = self._noise.draw()
        for row, picture in zip(rows, obs, strict=True):
            self._eyes[row].see(torch.from_numpy(picture)[None], noise[row : row + 1])
        before = Plans(*map(torch.cat, zip(*(self._plans[row] for row in rows), strict=True)))
        luck = [rng(self._seeds[row], "plan", step) for row in rows]
        action, plans = self._planner.decide(self.state, before, luck)
        for index, row in enumerate(rows):
            self._plans[row] = Plans(*(part[index : index + 1] for part in plans))
            self._eyes[row].did(action[index : index + 1])
        decided: np.ndarray = action.cpu().numpy()
        self.decisions += len(rows)
        self.seconds += time.perf_counter() - began
        return decided


def seconds_a_decision(model: WorldModel, settings: ByPlan) -> float:
    """How long an agent takes to decide here, in the median of a few decisions. Raises ValueError as Planner does."""
    agent = PlanningAgent(model, settings)
    agent.begin([0])
    taken = []
    for step in range(MEASURED):
        before = agent.seconds
        agent.act([np.zeros(OBS_SHAPE, np.uint8)], [0], step)
        taken.append(agent.seconds - before)
    return float(np.median(taken))


def _together(states: list[State]) -> State:
    """The states of several rows as one."""
    parts: dict[str, list[Tensor]] = {name: [state[name] for state in states] for name in states[0]}
    return {name: torch.cat(values) for name, values in parts.items()}
