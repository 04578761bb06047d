"""Our M and C hold the weights that the authors published, and behave with them as theirs did (CLASSIC 3)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodels.acting.controller import Controller
from worldmodels.core.seeding import Noise
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.mixture import nll, sample, split
from worldmodels.settings.models import MDNRNNSettings

PUBLISHED = Path(__file__).parents[3] / "shared/published"
pytestmark = pytest.mark.skipif(not PUBLISHED.exists(), reason=f"needs the authors' weights in {PUBLISHED}")

# dimensions of the CarRacing code that the authors' V uses (CLASSIC 1.3); the others are noise, N(0, 1)
USED = [2, 5, 9, 15, 17, 18, 20, 21, 23, 25, 26, 28, 29]


def read(name: str) -> list:
    return json.loads((PUBLISHED / name).read_text())


def published_memory() -> MDNRNN:
    """TensorFlow's arrays, their gates ordered i, j, f, o with 1 added to f at run time, as our one linear layer."""
    arrays = {np.shape(a): torch.tensor(np.array(a) / 10_000, dtype=torch.float32) for a in read("carracing_rnn.json")}
    memory = MDNRNN(MDNRNNSettings(hidden_size=256, reward="none", termination=False), 32, 3)
    i, j, f, o = arrays[(291, 1024)].chunk(4, 1)
    bi, bj, bf, bo = arrays[(1024,)].chunk(4)
    output = arrays[(256, 480)].reshape(256, 32, 3, 5).permute(2, 3, 1, 0).reshape(480, 256)
    with torch.no_grad():
        memory.cell.weight.copy_(torch.cat([i, f, j, o], 1).T)
        memory.cell.bias.copy_(torch.cat([bi, bf + 1.0, bj, bo]))
        memory.head.weight.copy_(output)
        memory.head.bias.copy_(arrays[(480,)].reshape(32, 3, 5).permute(1, 2, 0).reshape(480))
    return memory.requires_grad_(False)


def dream(memory: MDNRNN, episodes: int = 16, steps: int = 150) -> torch.Tensor:
    """Negative log-likelihood per dimension (32,) of what M dreams after the published start, half gas, no steering."""
    mu, logvar = (
        torch.tensor(np.array(values) / 10_000, dtype=torch.float32) for values in read("carracing_initial_z.json")
    )
    noise = Noise(list(range(episodes)), 64)
    z = mu + (logvar / 2).exp() * torch.randn(episodes, 32, generator=torch.Generator().manual_seed(0))
    h = c = torch.zeros(episodes, 256)
    action = torch.tensor([0.0, 0.5, 0.0]).expand(episodes, 3)
    total = torch.zeros(32)
    for _ in range(steps):
        h, c = memory.step(z, action, torch.zeros(episodes, 1), h, c)
        expected = memory.predict(h).code
        z = sample(expected, noise.draw(), 1.0, 5)
        for d in range(32):
            one = torch.cat([part[..., d] for part in split(expected, 5)], -1)
            total[d] += nll(one, z[:, d : d + 1], 5).mean() / steps
    return total


def test_dimensions_that_the_authors_v_does_not_use_sit_at_the_entropy_of_noise() -> None:
    found = dream(published_memory())
    unused = [d for d in range(32) if d not in USED]
    assert torch.allclose(found[unused], torch.full((len(unused),), 1.419), atol=0.06)
    assert found[USED].mean() < 1.0


def test_a_wrong_gate_order_would_be_noticed() -> None:
    memory = published_memory()
    i, f, g, o = memory.cell.weight.clone().chunk(4)
    memory.cell.weight.copy_(torch.cat([i, g, f, o]))
    found = dream(memory)
    unused = [d for d in range(32) if d not in USED]
    assert not torch.allclose(found[unused], torch.full((len(unused),), 1.419), atol=0.06) or found[USED].mean() > 1.0


@pytest.mark.parametrize(("name", "arguments"), [("carracing", (288, 3)), ("doomrnn", (1088, 1, 0, False))])
def test_the_authors_controllers_fit_ours(name: str, arguments: tuple) -> None:
    params, score = read(f"{name}.cma.16.64.best.json")
    controller = Controller(*arguments)
    assert len(params) == controller.num_params and score > 900
    row = torch.tensor(params, dtype=torch.float32)[None]
    silent = controller.act(row, torch.zeros(1, arguments[0]))
    expected = torch.tanh(row[:, :3]) if name == "carracing" else torch.zeros(1, 1)
    assert torch.allclose(silent, expected)  # biases come first, and Doom's controller has none
