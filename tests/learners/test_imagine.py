"""Gradients through the dreams of real families of M."""

import pytest
import torch
from torch import Tensor

from worldmodels import models
from worldmodels.acting.actor import Actor
from worldmodels.learners.imagine import bounded, imagine
from worldmodels.models.base import Memory, State, WorldModel
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.recurrent import RSSMMemory
from worldmodels.models.vae import VAE
from worldmodels.settings.models import MDNRNNSettings, RSSMSettings, VAESettings

CODE = 4
SIZES = {"hidden_size": 12, "units": 16, "layers": 1}
MEMORIES: dict[str, Memory] = {
    "gaussian": RSSMMemory(RSSMSettings(groups=3, classes=0, **SIZES), 2 * CODE, CODE, 2),
    "categorical": RSSMMemory(RSSMSettings(groups=3, classes=4, **SIZES), 2 * CODE, CODE, 2),
    "mdn": MDNRNN(MDNRNNSettings(hidden_size=12, restart_input=True), CODE, 2),
}


def paired(name: str) -> WorldModel:
    """With heads that are no longer near zero."""
    torch.manual_seed(0)
    memory = MEMORIES[name]
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return models.pair(VAE(VAESettings(code_size=CODE)), memory, torch.randn(3, 2 * CODE), precision="fp32")


def begun(model: WorldModel, rows: int) -> State:
    torch.manual_seed(1)
    first = torch.ones(rows, 1)
    noise = torch.rand(rows, model.noise_size).clamp(0.01, 0.99)
    return model.observe(model.initial(rows), torch.zeros(rows, 2), torch.randn(rows, 2 * CODE), first, noise)


def worth(model: WorldModel, state: State, actions: Tensor, noise: Tensor) -> Tensor:
    """What some actions (T, B, A) come to, (B,): what is paid, when it ends, and where it leads."""
    total = torch.zeros(actions.shape[1])
    for action, drawn in zip(actions, noise, strict=True):
        dreamt = model.imagine(state, action, drawn, 1.15)
        state = dreamt.state
        total = total + dreamt.reward - dreamt.end + model.features(state, ("z", "h")).sum(-1)
    return total


@pytest.mark.parametrize("name", ["gaussian", "mdn"])
def test_gradients_of_dreams_are_those_of_differences(name: str) -> None:
    """Of what is smooth: all of an RSSM with a Gaussian z, and an MDN-RNN's code, given its component."""
    model, rows = paired(name), 16
    state = begun(model, rows)
    noise = torch.rand(3, rows, model.noise_size).clamp(0.01, 0.99)
    actions = (torch.rand(3, rows, 2) * 1.8 - 0.9).requires_grad_()
    (slope,) = torch.autograd.grad(worth(model, state, actions, noise).sum(), actions)
    checked = 0
    for t in range(3):
        step = torch.zeros(3, rows, 2)
        step[t] = torch.randn(rows, 2)
        with torch.no_grad():
            sides = [worth(model, state, actions + by * step, noise) for by in (4e-3, -4e-3, 2e-3, -2e-3)]
        wide, narrow = (sides[0] - sides[1]) / 8e-3, (sides[2] - sides[3]) / 4e-3
        smooth = (wide - narrow).abs() < 0.01 * (1 + narrow.abs())  # no component changed on the way
        found = (slope * step).sum((0, 2))
        assert torch.allclose(found[smooth], narrow[smooth], rtol=0.02, atol=5e-3)
        checked += int(smooth.sum())
    assert checked > 36 and slope[0].abs().max() > 0.05


def test_a_categorical_sample_lets_through_what_its_probabilities_would() -> None:
    model = paired("categorical")
    state, noise = begun(model, 5), torch.rand(5, model.noise_size)
    action = (torch.rand(5, 2) - 0.5).requires_grad_()
    dreamt = model.imagine(state, action, noise)
    assert set(dreamt.state["z"].detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    direction = torch.randn(dreamt.state["z"].shape)
    through, expected = (
        torch.autograd.grad((z * direction).sum(), action, retain_graph=True)[0]
        for z in (dreamt.state["z"], model.features(dreamt.state, ("probs",)))
    )
    assert torch.allclose(through, expected, atol=1e-6) and through.abs().max() > 1e-3


@pytest.mark.parametrize("name", MEMORIES)
def test_actions_beyond_one_keep_a_gradient_scaled_as_they_are(name: str) -> None:
    model = paired(name)
    state, noise = begun(model, 4), torch.rand(1, 4, model.noise_size).clamp(0.01, 0.99)
    far = torch.tensor([[[3.0, 0.5], [-2.0, 0.1], [5.0, -4.0], [0.2, -0.3]]], requires_grad=True)
    near = bounded(far).detach().requires_grad_()
    assert near.abs().max() == 1
    slopes = [
        torch.autograd.grad(worth(model, state, bounded(actions), noise).sum(), actions)[0] for actions in (far, near)
    ]
    assert torch.allclose(slopes[0], slopes[1] / far.detach().abs().clamp_min(1), atol=1e-6)
    assert (slopes[0] != 0).all()
    if name != "mdn":  # an RSSM scales by itself
        alone = torch.autograd.grad(worth(model, state, far, noise).sum(), far)[0]
        assert torch.allclose(alone, slopes[0], atol=1e-6)


def test_rewards_beyond_the_datas_range_are_paid_as_its_limit_and_keep_their_gradient() -> None:
    memory = RSSMMemory(RSSMSettings(groups=3, classes=0, **SIZES), 2 * CODE, CODE, 2, losses="paper")
    memory.reward_range = (0.0, 1e-3)
    torch.manual_seed(0)
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model = models.pair(VAE(VAESettings(code_size=CODE)), memory, torch.randn(3, 2 * CODE), precision="fp32")
    action = torch.zeros(6, 2, requires_grad=True)
    reward = model.imagine(begun(model, 6), action, torch.rand(6, 3)).reward
    assert ((reward.detach() - 1e-3).abs() < 1e-6).any() and reward.detach().max() <= 1e-3 + 1e-6
    assert reward.detach().min() >= -1e-6
    assert (torch.autograd.grad(reward.sum(), action)[0] != 0).all()


@pytest.mark.parametrize("name", MEMORIES)
def test_dreams_are_the_same_with_gradients_and_without(name: str) -> None:
    model = paired(name)
    state = begun(model, 7)
    inputs = ("z", "h")
    actor = Actor(sum(model.feat_sizes[part] for part in inputs), 2, 16, 1)
    noise = torch.rand(4, 7, model.noise_size + 2).clamp(0.01, 0.99)
    with_gradients = imagine(model, actor, inputs, state, noise, 1.3, 0.5)
    with torch.no_grad():
        without = imagine(model, actor, inputs, state, noise, 1.3, 0.5)
    for name_, a, b in zip(without._fields, with_gradients, without, strict=True):
        assert torch.allclose(a.detach(), b, atol=1e-5), name_
    assert without.feat.shape[0] == 5 and without.reward.shape == without.end.shape == (4, 7)
    step = model.imagine(state, bounded(without.action[0]), noise[0, :, : model.noise_size], 1.3)
    assert torch.allclose(step.reward.detach(), without.reward[0], atol=1e-5)
    odds = step.end / (1 - step.end) * torch.e**0.5
    assert torch.allclose(odds / (1 + odds), without.end[0], atol=1e-5)
