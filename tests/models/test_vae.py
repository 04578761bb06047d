import numpy as np
import pytest
import torch

from worldmodels.models.codes import sample_code
from worldmodels.models.vae import VAE
from worldmodels.settings.models import VAESettings


@pytest.mark.parametrize(("code_size", "count"), [(32, 4_348_547), (64, 4_446_915)])
def test_parameter_counts_are_the_papers(code_size: int, count: int) -> None:
    assert sum(p.numel() for p in VAE(VAESettings(code_size=code_size)).parameters()) == count


def test_loss_against_torch_distributions_in_float64() -> None:
    vision = VAE(VAESettings(code_size=8, kl_floor=0.0)).double()
    obs = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8)
    target = obs.permute(0, 3, 1, 2).double() / 255
    # the input conversion is float32; feed the same numbers to both
    target = target.float().double()
    with torch.no_grad():
        hidden = vision.encoder(target)
        mu, logvar = vision.mu(hidden), vision.logvar(hidden)
        noise = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
        z = mu + torch.exp(0.5 * logvar) * noise
        picture = vision.decoder(z)
        error = ((picture - target) ** 2).sum((1, 2, 3)).mean()
        posterior = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
        kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    vision.float()
    loss, metrics, _ = vision.loss({"obs": obs}, {}, torch.Generator().manual_seed(3))
    assert float(metrics["kl"]) == pytest.approx(float(kl), rel=1e-4)
    assert float(metrics["reconstruction"]) == pytest.approx(float(error), rel=1e-4)
    assert float(loss.detach()) == pytest.approx(float(error + kl), rel=1e-4)


def test_the_kl_floor_stops_its_gradient() -> None:
    obs = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    for floor, flows in ((100.0, False), (0.0, True)):
        torch.manual_seed(0)
        vision = VAE(VAESettings(code_size=8, kl_floor=floor))
        loss, metrics, _ = vision.loss({"obs": obs}, {}, torch.Generator().manual_seed(0))
        (grad,) = torch.autograd.grad(loss, vision.logvar.weight)
        torch.manual_seed(0)
        other = VAE(VAESettings(code_size=8, kl_floor=0.0))
        error = other.loss({"obs": obs}, {}, torch.Generator().manual_seed(0))
        (without,) = torch.autograd.grad(error[0], other.logvar.weight)
        assert torch.allclose(grad, without) == flows
        assert float(loss.detach()) == pytest.approx(
            float(metrics["reconstruction"]) + max(float(metrics["kl"]), floor * 8)
        )


def test_shapes_scales_and_any_leading_dimensions() -> None:
    vision = VAE(VAESettings(code_size=8))
    obs = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    embed = vision.encode(obs)
    assert embed.shape == (2, 3, 16) and embed.dtype == torch.float32
    assert torch.allclose(embed[1, 2], vision.encode(obs[1, 2]), atol=1e-5)
    picture = vision.decode(embed[..., :8])
    assert picture.shape == (2, 3, 64, 64, 3) and picture.dtype == torch.uint8


def test_codes_are_sampled_with_the_right_spread() -> None:
    mu, logvar = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -1.0])
    embed = torch.cat([mu, logvar]).expand(200_000, -1)
    z = sample_code(embed, torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(z.mean(0), mu, atol=0.02) and torch.allclose(z.var(0), logvar.exp(), rtol=0.02)


def test_an_embedding_is_a_point_or_a_distribution_and_else_refused() -> None:
    noise = torch.tensor([[1.0, -1.0]])
    assert torch.equal(sample_code(torch.zeros(1, 2), noise), 0.1 * noise)
    assert torch.equal(sample_code(torch.zeros(1, 4), noise), noise)
    with pytest.raises(ValueError, match="3 numbers is neither a point nor a distribution of 2"):
        sample_code(torch.zeros(1, 3), noise)


def test_it_learns_a_handful_of_pictures() -> None:
    torch.manual_seed(0)
    vision, generator = VAE(VAESettings(code_size=8)), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(vision.parameters(), 1e-3)
    obs = torch.zeros(8, 64, 64, 3, dtype=torch.uint8)
    for i in range(8):
        obs[i, 8 * i : 8 * i + 8] = 255
    losses = []
    for _ in range(60):
        loss, metrics, _ = vision.loss({"obs": obs}, {}, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(metrics["reconstruction"]))
    assert losses[-1] < losses[0] / 2


def test_what_is_badly_drawn_weighs_more_by_as_much_as_was_asked() -> None:
    torch.manual_seed(0)
    errors = torch.rand(2, 3, 64, 64) ** 100
    for focus in (0.0, 2.0, 50.0):
        weights = VAE(VAESettings(code_size=8, focus=focus))._weights(errors).expand_as(errors)
        by_hand = 1 + np.minimum(errors.double().numpy() / errors.double().mean().numpy(), focus)
        assert weights.numpy() == pytest.approx(by_hand, rel=1e-4)
        assert float(weights.max()) == pytest.approx(1 + focus, rel=1e-6)  # so that the bound is met here


def test_a_focus_changes_what_is_learnt_and_not_what_is_reported() -> None:
    obs = torch.randint(256, (4, 64, 64, 3), dtype=torch.uint8)
    losses = {}
    for focus in (0.0, 50.0):
        torch.manual_seed(0)
        vae = VAE(VAESettings(code_size=8, focus=focus))
        losses[focus] = vae.loss({"obs": obs}, {}, torch.Generator().manual_seed(0))[:2]
    plain, focused = losses[0.0], losses[50.0]
    assert float(focused[1]["reconstruction"]) == pytest.approx(float(plain[1]["reconstruction"]), rel=1e-6)
    assert float(focused[0]) > 1.5 * float(plain[0])
