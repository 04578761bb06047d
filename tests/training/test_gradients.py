"""Shares of a gradient: what they come to, whoever computes them."""

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.settings.models import MDNRNNSettings
from worldmodels.settings.shared import usual
from worldmodels.settings.stages import MemoryConfig
from worldmodels.training.gradients import Found, Gradients, Share, gradient_of_share, helpers, shares
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
    for name, value in whole.metrics.items():
        assert float(found.metrics[name]) == pytest.approx(float(value), rel=1e-5)
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


class Idle(MDNRNN):
    """One with a parameter that its loss does not ask for."""

    def __init__(self, settings: MDNRNNSettings, code_size: int, action_size: int) -> None:
        super().__init__(settings, code_size, action_size)
        self.idle = torch.nn.Parameter(torch.zeros(3))


def test_what_the_loss_does_not_ask_for_has_no_gradient() -> None:
    module = Idle(memory().settings, 4, 1)
    _, gradients = gradient(module, batch(32), Workers(0), 2)
    without = [name for name, one in zip(dict(module.named_parameters()), gradients, strict=True) if one is None]
    assert without == ["idle"]


def test_shares_have_noise_of_their_own() -> None:
    """All rows are alike, and so is what they remember: only noise can tell the shares apart."""

    def found(rows: int, workers: Workers | None) -> torch.Tensor:
        module = memory()
        alike = {name: value.repeat(rows, *[1] * (value.dim() - 1)) for name, value in batch(1).items()}
        Gradients(module, config(2), CPU, workers).of(alike, {}, "memory", 7)
        assert module.cell.weight.grad is not None
        return module.cell.weight.grad

    first = found(16, None)  # the noise of the first share
    assert torch.equal(first, found(16, Workers(0)))
    assert not torch.allclose(first, found(32, Workers(0)))


def test_ends_in_one_share_hardly_move_the_mean() -> None:
    """Each share's likelihood is over its own steps that something follows."""
    rows = batch(32, steps=64, log_variance=-200.0)
    rows["terminated"][:3, 40] = True
    rows["is_first"][:3, 41] = True
    whole, expected = gradient(memory(), rows, None, 2)
    found, computed = gradient(memory(), rows, Workers(0), 2)
    assert found.loss == pytest.approx(whole.loss, rel=0.01) and found.loss != whole.loss
    for one, other in zip(computed, expected, strict=True):
        assert float((one - other).norm()) < 0.02 * float(other.norm())


def died_once(task: Share) -> tuple:
    """What a worker finds, whose forerunner died of it."""
    mark = Path(task.precision)
    if task.luck[-1] == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return gradient_of_share(task._replace(precision="fp32"))


def test_a_worker_that_dies_in_the_middle_of_a_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = gradient(memory(), batch(32), Workers(0), 2)
    mark = tmp_path / "died"
    mortal = dataclasses.replace(config(2), precision=str(mark))  # which each task has with it
    monkeypatch.setattr("worldmodels.training.gradients.gradient_of_share", died_once)
    monkeypatch.setattr(sys.modules[__name__], "config", lambda workers: mortal)
    with Workers(2) as workers:
        _, computed = gradient(memory(), batch(32), workers, 2)
    assert mark.exists()
    assert all(torch.equal(one, other) for one, other in zip(computed, expected, strict=True))


def test_only_what_is_worth_a_core_is_shared() -> None:
    small = MDNRNN(MDNRNNSettings(hidden_size=255), 4, 1)
    assert [shares(memory(), rows, 4) for rows in (8, 31, 32, 63, 64, 1000)] == [1, 1, 2, 3, 4, 4]
    assert shares(memory(), 64, 1) == shares(small, 64, 4) == 1
    with helpers(memory(), config(1), CPU) as nobody, helpers(memory(), config(2), CPU) as some:
        assert nobody is None and isinstance(some, Workers)
    with helpers(memory(), config(2), torch.device("meta")) as nobody:
        assert nobody is None
