"""An actor that tries things, and what it keeps of that."""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from worldmodels.acting.actions import bounded
from worldmodels.acting.actor import Actor
from worldmodels.acting.agents import TryingAgent
from worldmodels.acting.rollout import rollout
from worldmodels.core.seeding import Noise, integer
from worldmodels.envs.checked import Misstep
from worldmodels.models.base import State

SEEDS = [7, 8, 9]
HOLD = 3


class Glass:
    """Sees the first pixel, and remembers what was done last."""

    action_size = 2
    noise_size = 1
    starts = torch.zeros(1, 1)

    def initial(self, rows: int) -> State:
        return {"x": torch.zeros(rows, 3)}

    def encode(self, obs: Tensor) -> Tensor:
        return obs[:, 0, 0, :1].float() / 10

    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        return {"x": torch.cat([embed, action], 1)}

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return state["x"]


class Clock(gymnasium.Env):
    """Shows the number of steps so far; ends after as many as its seed says, and fails once at one of seed 8."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,))
    failed = False

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self._seed, self._step = seed, 0
        return self._picture(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._step += 1
        if self._seed == 8 and not self.failed:
            self.failed = True
            raise Misstep("it stumbled")
        return self._picture(), float(self._step), self._step == 4 + (self._seed or 0) % 5, False, {}

    def _picture(self) -> np.ndarray:
        return np.full((64, 64, 3), self._step, np.uint8)


def played(by_chance: bool = False) -> tuple[TryingAgent, Actor, list]:
    torch.manual_seed(0)
    actor = Actor(3, 2, units=8, layers=1)
    agent = TryingAgent(Glass(), actor, ("x",), actor.params().numpy(), HOLD, by_chance)  # type: ignore[arg-type]
    return agent, actor, rollout([Clock() for _ in SEEDS], agent, SEEDS, 100)


def test_it_keeps_what_it_saw_and_did_at_each_decision() -> None:
    agent, actor, outcomes = played()
    for row, outcome in enumerate(outcomes):
        feat, action = agent.told(row)
        steps = np.arange(0, outcome.length, HOLD)
        assert len(feat) == len(action) == len(steps)
        assert np.allclose(feat[:, 0], steps / 10)
        done = bounded(torch.from_numpy(action)).numpy()
        assert np.allclose(feat[1:, 1:], done[:-1], atol=1e-6)  # held until the next
        luck = Noise([integer(outcome.seed, "tries")], 2)
        drawn = torch.cat([luck.draw() for _ in steps])
        assert np.allclose(action, actor.actions.sample(actor(torch.from_numpy(feat)), drawn).detach(), atol=1e-5)
    assert outcomes[1].failures == ("it stumbled",) and not outcomes[0].failures


def test_by_chance_it_prefers_nothing() -> None:
    agent, actor, outcomes = played(by_chance=True)
    for row, outcome in enumerate(outcomes):
        luck = Noise([integer(outcome.seed, "tries")], 2)
        action = agent.told(row)[1]
        drawn = torch.cat([luck.draw() for _ in action])
        assert np.allclose(action, actor.actions.sample(torch.zeros(len(action), 4), drawn), atol=1e-6)


def test_an_outcome_tells_each_reward() -> None:
    _, _, outcomes = played()
    for outcome in outcomes:
        assert outcome.rewards.tolist() == list(range(1, outcome.length + 1)) and not outcome.given_up
        assert outcome.episode_return == sum(outcome.rewards)
