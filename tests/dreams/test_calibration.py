"""What is expected of a step is compared with what happened in that step, and with no other."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import make_episode
from worldmodels.acting.policies import POLICIES
from worldmodels.core.seeding import integer, rng
from worldmodels.data.embeddings import EmbeddedEpisode
from worldmodels.dreams.calibration import blind_dreams, one_step
from worldmodels.models.base import Dreamed, State
from worldmodels.show import films


class Oracle:
    """A WorldModel that knows the truth of a toy world: codes count the steps that are left, backwards.

    An action pays ten times the code it was taken at, plus itself; the world ends where the code is 0.
    """

    action_size, code_size, noise_size, members, starts = 1, 1, 1, 1, torch.tensor([[7.0]])

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, float]] = []

    def initial(self, batch_size: int) -> State:
        return {"z": torch.zeros(batch_size, 1)}

    def encode(self, obs: Tensor) -> Tensor:
        return obs[..., 0, 0, :1].float()

    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        self.seen.append((float(action[0]), float(embed[0]), float(is_first[0])))
        return {"z": embed}

    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        z = state["z"] - 1
        end = (z[:, 0] == 0).float()
        return Dreamed({"z": z}, 10 * state["z"][:, 0] + action[:, 0], end, end > 0)

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return state["z"]

    def decode(self, state: State) -> Tensor:
        return state["z"].to(torch.uint8)[:, None, None].expand(-1, 64, 64, 3)


def toy(rand: np.random.Generator, steps: int, terminated: bool) -> EmbeddedEpisode:
    left = np.arange(steps, -1, -1, dtype=np.float16) + (not terminated)
    action = rand.uniform(-1, 1, (steps, 1)).astype(np.float32)
    return EmbeddedEpisode(left[:, None], action, 10 * left[:-1].astype(np.float32) + action[:, 0], terminated)


def test_one_step_ahead_is_compared_with_that_step() -> None:
    rand = np.random.default_rng(0)
    episodes = [toy(rand, 5, True), toy(rand, 9, False), toy(rand, 1, True)]
    model: Any = Oracle()
    end, happened, reward, paid = one_step(model, episodes, seed=0)
    np.testing.assert_allclose(reward, paid, rtol=1e-6)
    assert np.array_equal(end, happened) and happened.tolist() == [0, 0, 0, 0, 1] + [0] * 9 + [1]
    first, second = model.seen[:2]
    assert first == (0.0, 5.0, 1.0) and second == (float(episodes[0].action[0, 0]), 4.0, 0.0)


def test_blind_dreams_are_paid_for_what_they_did_until_they_ended() -> None:
    returns, lengths = blind_dreams(Oracle(), "uniform", 3, 100, seed=5)  # type: ignore[arg-type]
    assert lengths.tolist() == [7, 7, 7]  # from 7 down to 0
    for i, total in enumerate(returns):
        act = POLICIES["uniform"](rng(integer(5, "dream lengths", i), "policy"), 1)
        expected = sum(10 * (7 - t) + act(t)[0] for t in range(7))
        assert abs(total - expected) < 1e-4
    assert blind_dreams(Oracle(), "still", 1, 4, seed=5)[1].tolist() == [4]  # type: ignore[arg-type]


def test_a_film_shuts_its_eyes_when_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    episode = make_episode(np.random.default_rng(0), 12, action_size=1)
    episode.obs[:, ..., :] = (100 + np.arange(13) ** 2)[:, None, None, None]  # which no dream foresees
    shown: list[dict[str, np.ndarray]] = []
    original = films.panels

    def panels(pictures: dict[str, np.ndarray], border: dict) -> np.ndarray:
        shown.append(pictures)
        return original(pictures, border=border)

    monkeypatch.setattr(films, "panels", panels)
    frames = list(films._open_loop_frames(Oracle(), episode, eyes_open=5))  # type: ignore[arg-type]
    assert len(frames) == 12
    for t, pictures in enumerate(shown):
        real, seen, third = (int(picture[0, 0, 0]) for picture in pictures.values())
        assert real == seen == 100 + t**2
        assert third == (100 + t**2 if t < 5 else 116 - (t - 4))  # from there on the model counts down by itself
        assert list(pictures)[2] == ("eyes open" if t < 5 else "dream")
