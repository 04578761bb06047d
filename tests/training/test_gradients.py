"""Shares of a gradient: what they come to, whoever computes them."""

import dataclasses
from typing import Any

import pytest
import torch

from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.settings.models import MDNRNNSettings
from worldmodels.settings.shared import usual
from worldmodels.settings.stages import MemoryConfig
from worldmodels.training.gradients import Found, Gradients, helpers, shares
from worldmodels.workers.local import Workers

CPU = torch.device("cpu")


def memory(**settings: Any) -> MDNRNN:
    torch.manual_seed(0)
    return MDNRNN(MDNRNNSettings(hidden_size=256, restart_input=True, reward="alive", **settings), 4, 1)


def config(workers: int) -> MemoryConfig:
    return dataclasses.replace(usual(MemoryConfig, "doom", "tiny"), workers=workers, precision="fp32", seed=3)


def batch(rows: int, steps: int = 6, log_variance: float = 0.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    embed = torch.randn(rows, steps + 1, 8, generator=generator)
    embed[..., 4:] = log_variance
    return {
        "embed": embed[:, :-1],
        "next_embed": embed[:, 1:],
        "action": torch.rand(rows, steps, 1, generator=generator) * 2 - 1,
        "reward": torch.ones(rows, steps),
        "terminated": torch.zeros(rows, steps, dtype=torch.bool),
        "is_first": torch.zeros(rows, steps, dtype=torch.bool),
    }


def gradient(module: MDNRNN, rows: dict[str, torch.Tensor], workers: Workers | None, cores: int) -> tuple[Found, list]:
    carry = {name: torch.randn(len(rows["reward"]), 256, generator=torch.Generator().manual_seed(2)) for name in "hc"}
    found = Gradients(module, config(cores), CPU, workers).of(rows, carry, "memory", 7)
    return found, [parameter.grad for parameter in module.parameters()]


@pytest.mark.parametrize("rows", [32, 37])
def test_shares_come_to_the_gradient_of_the_whole_batch(rows: int) -> None:
    whole, expected = gradient(memory(), batch(rows, log_variance=-200.0), None, 2)  # codes without noise
    found, computed = gradient(memory(), batch(rows, log_variance=-200.0), Workers(0), 2)
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)
    assert found.metrics == pytest.approx(whole.metrics, rel=1e-5)
    assert all(torch.allclose(found.carry[name], whole.carry[name], atol=1e-6) for name in "hc")
    for one, other in zip(computed, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * float(other.abs().max()))


def test_it_makes_no_difference_who_computes_a_share() -> None:
    module = memory(self_fed=0.9, dropout=0.1, members=2)
    found, computed = gradient(module, batch(32), Workers(0), 2)
    with Workers(2) as workers:
        theirs, gradients = gradient(module, batch(32), workers, 2)
        again, _ = gradient(module, batch(32), workers, 2)
    assert found.loss == theirs.loss == again.loss and found.metrics == theirs.metrics
    assert all(torch.equal(found.carry[name], theirs.carry[name]) for name in "hc")
    assert all(torch.equal(one, other) for one, other in zip(computed, gradients, strict=True))


def test_what_the_loss_does_not_ask_for_has_no_gradient() -> None:
    module = memory(termination=False)
    module.unused = torch.nn.Parameter(torch.zeros(3))  # type: ignore[assignment]
    assert Gradients(module, config(2), CPU, None).of(batch(32), {}, "memory", 1).loss > 0
    assert module.unused.grad is None


def test_shares_have_noise_of_their_own() -> None:
    alike = {name: value[:1].repeat(32, *[1] * (value.dim() - 1)) for name, value in batch(1).items()}
    _, both = gradient(memory(), alike, Workers(0), 2)
    _, one = gradient(memory(), {name: value[:16] for name, value in alike.items()}, Workers(0), 2)
    assert not torch.allclose(both[0], one[0])


def test_only_what_is_worth_a_core_is_shared() -> None:
    small = MDNRNN(MDNRNNSettings(hidden_size=255), 4, 1)
    assert [shares(memory(), rows, 4) for rows in (8, 31, 32, 63, 64, 1000)] == [1, 1, 2, 3, 4, 4]
    assert shares(memory(), 64, 1) == shares(small, 64, 4) == 1
    with helpers(memory(), config(1), CPU) as nobody, helpers(memory(), config(2), CPU) as some:
        assert nobody is None and isinstance(some, Workers)
    with helpers(memory(), config(2), torch.device("meta")) as nobody:
        assert nobody is None
