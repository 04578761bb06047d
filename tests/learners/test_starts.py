"""Where dreams begin that an actor is trained in."""

import numpy as np
import torch
from torch import Tensor

from worldmodels.data.embeddings import EmbeddedEpisode
from worldmodels.learners.starts import TOGETHER, among
from worldmodels.models.base import State


class Notebook:
    """A model whose state is what it sees, and how much it has seen since the beginning."""

    action_size = 1
    noise_size = 1
    members = 1
    starts = torch.zeros(1, 1)

    def initial(self, rows: int) -> State:
        return {"seen": torch.zeros(rows, 2), "count": torch.zeros(rows, 1)}

    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        return {"seen": embed, "count": state["count"] + 1}


def episode(number: int, steps: int) -> EmbeddedEpisode:
    embed = np.stack([np.full(steps + 1, number), np.arange(steps + 1)], 1).astype(np.float16)
    return EmbeddedEpisode(embed, np.zeros((steps, 1), np.float32), np.zeros(steps, np.float32), True)


def test_all_steps_are_alike_but_the_last_and_all_that_was_before_is_remembered() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, TOGETHER * 3 + 5)
    episodes = [episode(number, int(steps)) for number, steps in enumerate(lengths)]
    count = 40_000
    found = among(Notebook(), episodes, 0, count)  # type: ignore[arg-type]
    number, step = found["seen"].long().T.numpy()
    assert len(number) == count and (step < lengths[number]).all()
    assert np.array_equal(found["count"].ravel().numpy(), step + 1)
    often = np.bincount(number, minlength=len(lengths)) / count
    assert np.abs(often - lengths / lengths.sum()).max() < 0.004 and (often[lengths > 3] > 0).all()
    assert torch.equal(among(Notebook(), episodes, 0, count)["seen"], found["seen"])  # type: ignore[arg-type]
    assert not torch.equal(among(Notebook(), episodes, 1, count)["seen"], found["seen"])  # type: ignore[arg-type]
    assert len(among(Notebook(), episodes, 0, 7)["seen"]) == 7  # type: ignore[arg-type]
