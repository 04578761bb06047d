"""What the authors published, against forward passes of their own written anew in numpy (CLASSIC 1.3, 1.4, 2.5)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodels.models import published
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.mixture import nll, split
from worldmodels.settings.environments import Published
from worldmodels.stages.import_published import GAMES, recognised

FILES = Path(__file__).parents[3] / "shared/published"
theirs = pytest.mark.skipif(not FILES.is_dir(), reason=f"{FILES}, which holds what the authors published, is not here")
UNUSED = [*(d for d in range(32) if d not in (2, 5, 9, 15, 17, 18, 20, 21, 23, 25, 26, 28, 29))]
"""Dimensions of the car's code that the published V leaves at its prior."""


def drawn(shapes: list[tuple[int, ...]], scale: float = 0.05) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.round(rng.normal(0, scale, shape), 4) for shape in shapes]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """TensorFlow's conv2d, VALID, stride 2: x (h, w, in), kernel (k, k, in, out)."""
    size = kernel.shape[0]
    steps = range(0, x.shape[0] - size + 1, 2)
    return np.array([[np.tensordot(x[i : i + size, j : j + size], kernel, 3) for j in steps] for i in steps]) + bias


def spread(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """TensorFlow's conv2d_transpose, VALID, stride 2: x (h, w, in), kernel (k, k, out, in)."""
    size, _, outputs, _ = kernel.shape
    wide = 2 * (x.shape[0] - 1) + size
    y = np.zeros((wide, wide, outputs))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[2 * i : 2 * i + size, 2 * j : 2 * j + size] += kernel @ x[i, j]
    return y + bias


def encoded(arrays: list[np.ndarray], obs: np.ndarray) -> np.ndarray:
    x = obs / 255
    for layer in range(4):
        x = np.maximum(convolved(x, *arrays[2 * layer : 2 * layer + 2]), 0)
    flat = x.reshape(-1)
    return np.concatenate([flat @ arrays[8] + arrays[9], flat @ arrays[10] + arrays[11]])


def decoded(arrays: list[np.ndarray], z: np.ndarray) -> np.ndarray:
    x = (z @ arrays[12] + arrays[13]).reshape(1, 1, 1024)
    for layer in range(7, 11):
        x = spread(x, *arrays[2 * layer : 2 * layer + 2])
        x = np.maximum(x, 0) if layer < 10 else sigmoid(x)
    return x * 255


def stepped(
    game: Published,
    arrays: list[np.ndarray],
    z: np.ndarray,
    action: np.ndarray,
    restart: float,
    h: np.ndarray,
    c: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Their cell and output, on a row of each: h, c and the output as it comes."""
    kernel, bias, out_weight, out_bias = arrays
    if restart:
        h, c = np.zeros_like(h), np.zeros_like(c)
    told = [z, action, [restart], h] if game.restart else [z, action, h]
    i, j, f, o = np.split(np.concatenate(told) @ kernel + bias, 4)
    c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
    h = np.tanh(c) * sigmoid(o)
    return h, c, h @ out_weight + out_bias


@pytest.mark.parametrize("code_size", [32, 64])
def test_v_sees_and_draws_as_theirs(code_size: int) -> None:
    arrays = drawn(published.vision_shapes(code_size))
    assert len(arrays) == 22
    assert sum(array.size for array in arrays) == {32: 4_348_547, 64: 4_446_915}[code_size]
    vision = published.vision(arrays)
    rng = np.random.default_rng(1)
    obs = rng.integers(0, 256, (64, 64, 3), np.uint8)
    z = rng.normal(size=code_size)
    with torch.no_grad():
        embed = vision.encode(torch.from_numpy(obs)).numpy()
        picture = vision.decode(torch.from_numpy(z).float()).numpy()
    assert np.allclose(embed, encoded(arrays, obs), atol=1e-4)
    assert np.abs(picture - decoded(arrays, z)).max() < 0.51 and picture.std() > 5


@pytest.mark.parametrize("env", list(GAMES))
def test_m_expects_what_theirs_expects(env: str) -> None:
    game = GAMES[env]
    arrays = drawn(published.memory_shapes(game), 0.3)
    assert sum(array.size for array in arrays) == {"carracing": 422_368, "doom": 1_678_785}[env]
    follow(game, arrays)


def follow(game: Published, arrays: list[np.ndarray]) -> None:
    """Both models, step by step along noise: memory, mixtures and ends are equal."""
    memory = published.memory(arrays, game)
    rng = np.random.default_rng(2)
    h = c = np.zeros(game.hidden_size)
    ours = torch.zeros(1, game.hidden_size), torch.zeros(1, game.hidden_size)
    for step in range(6):
        z = rng.normal(size=game.code_size)
        action = rng.uniform(-1, 1, game.action_size)
        native = action if game.action_size == 1 else np.array([action[0], (action[1] + 1) / 2, max(action[2], 0)])
        restart = float(step == 0) * game.restart
        h, c, out = stepped(game, arrays, z, native, restart, h, c)
        row = (torch.tensor(part, dtype=torch.float32)[None] for part in (z, action, np.array([restart])))
        with torch.no_grad():
            ours = memory.step(*row, *ours)
            expected = memory.predict(ours[0])
        assert np.allclose(ours[0][0], h, atol=1e-5) and np.allclose(ours[1][0], c, atol=1e-5)
        of_each = out[int(game.restart) :].reshape(game.code_size, 3, 5)  # logits, means, log deviations
        for kind, found in enumerate(split(expected.code, 5)):
            assert np.allclose(found[0].T, of_each[:, kind], atol=1e-4)
        assert (expected.end is None) == (not game.restart)
        if expected.end is not None:
            assert float(expected.end) == pytest.approx(out[0], abs=1e-4)


def test_what_learns_on_from_the_cars_m_is_told_pedals_too() -> None:
    game = GAMES["carracing"]
    memory = published.memory(drawn(published.memory_shapes(game)), game)
    memory.requires_grad_(False)
    batch = {"embed": torch.zeros(2, 3, 64), "next_embed": torch.zeros(2, 3, 64)}
    batch |= {name: torch.zeros(2, 3) for name in ("reward", "terminated", "is_first")}
    losses = {}
    for brake in (-1.0, -0.2, 0.5):
        batch["action"] = torch.tensor([0.0, 0.0, brake]).expand(2, 3, 3)
        losses[brake] = float(memory.loss(batch, {}, torch.Generator().manual_seed(0))[0])
    assert losses[-1.0] == losses[-0.2] != losses[0.5]


@theirs
def test_the_published_m_leaves_unused_dimensions_at_their_entropy() -> None:
    """1.419 nats is what N(0, 1) takes; a wrong layout of the output misses it by far (CLASSIC 3.3)."""
    env, kind, arrays = recognised(json.loads((FILES / "carracing_rnn.json").read_text()))
    assert (env, kind) == ("carracing", "memory")
    game = GAMES[env]
    follow(game, arrays)
    right = published.memory(arrays, game)
    assert unused_nats(right) == pytest.approx(1.419, abs=0.02)
    blocks = [
        *arrays[:2],
        *(part.reshape(-1, 3, 5, 32).transpose(0, 3, 1, 2).reshape(part.shape) for part in arrays[2:]),
    ]
    wrong = published.memory(blocks, game)
    assert unused_nats(wrong) > 1.5


def unused_nats(memory: MDNRNN) -> float:
    """Of codes that are all prior, along which M is led: nats for each dimension that V leaves unused."""
    generator = torch.Generator().manual_seed(0)
    h = c = torch.zeros(64, 256)
    total = []
    for _ in range(20):
        z, after = torch.randn(2, 64, 32, generator=generator)
        action = torch.rand(64, 3, generator=generator) * 2 - 1
        with torch.no_grad():
            h, c = memory.step(z, action, torch.zeros(64, 1), h, c)
            out = memory.predict(h).code.unflatten(-1, (15, 32))[..., UNUSED].flatten(-2)
            total.append(nll(out, after[:, UNUSED], 5).mean())
    return float(torch.stack(total).mean())
