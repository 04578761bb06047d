import pytest
import torch
from torch.nn import functional as F

from worldmodels.models.rssm import RSSM
from worldmodels.models.worlds import hiding
from worldmodels.settings.models import RecurrentSettings


@pytest.fixture(params=[4, 0], ids=["categorical", "gaussian"])
def rssm(request) -> RSSM:
    torch.manual_seed(0)
    sizes = RecurrentSettings(hidden_size=6, groups=3, classes=request.param, units=10)
    model = RSSM(sizes, embed_size=7, action_size=2)
    torch.nn.init.normal_(model.start)
    return model


def batch(rssm: RSSM, rows: int = 3, steps: int = 9) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    first = (torch.rand(rows, steps, generator=generator) < 0.3).float()
    first[:, 0] = 1
    noise = torch.rand(rows, steps, rssm.latent.noise_size, generator=generator).clamp(0.01, 0.99)
    action = torch.randn(rows, steps, 2, generator=generator) * 2  # beyond 1: it is scaled back
    return torch.randn(rows, steps, 7, generator=generator), action, first, noise


def test_the_authors_size() -> None:
    """About 5.83 million for six actions (HRSSM 1.2)."""
    assert (
        sum(
            p.numel()
            for p in RSSM(RecurrentSettings(hidden_size=512, groups=32, classes=32, units=512), 4096, 6).parameters()
        )
        == 5_828_096
    )


def test_unrolling_is_observing_step_by_step(rssm: RSSM) -> None:
    embed, action, first, noise = batch(rssm)
    whole = rssm.unroll(embed, action, first, noise)
    h, z = rssm.initial(3)
    h, z = torch.randn_like(h), torch.randn_like(z)  # whatever was before an episode's first step is forgotten
    for t in range(9):
        h, z, stats = rssm.observe(h, z, action[:, t], first[:, t : t + 1], embed[:, t], noise[:, t])
        assert torch.allclose(h, whole.h[:, t], atol=1e-5) and torch.allclose(z, whole.z[:, t], atol=1e-5)
        assert torch.allclose(stats, whole.posterior[:, t], atol=1e-5)
    assert whole.feat.shape == (3, 9, rssm.latent.size + 6) and torch.equal(whole.feat[..., -6:], whole.h)


def test_nothing_passes_an_episodes_beginning(rssm: RSSM) -> None:
    embed, action, first, noise = batch(rssm)
    first[:, 4] = 1
    other = embed.clone()
    other[:, :4] += 1
    action_too = action.clone()
    action_too[:, :5] += 1  # the action before a first step is not of this episode
    a, b = rssm.unroll(embed, action, first, noise), rssm.unroll(other, action_too, first, noise)
    assert not torch.allclose(a.feat[:, 3], b.feat[:, 3]) and torch.equal(a.feat[:, 4:], b.feat[:, 4:])


def test_the_gru_is_the_authors(rssm: RSSM) -> None:
    """HRSSM 1.2, written out."""
    z, h = torch.randn(4, rssm.latent.size), torch.tanh(torch.randn(4, 6))
    action = torch.randn(4, 2) * 3
    x = rssm.input.linear(torch.cat([z, action / action.abs().clamp_min(1)], -1))
    x = F.silu(F.layer_norm(x, (10,), rssm.input.norm.weight, rssm.input.norm.bias, 1e-3))
    gates = F.layer_norm(rssm.gates(torch.cat([x, h], -1)), (18,), rssm.gates_norm.weight, rssm.gates_norm.bias, 1e-3)
    reset, candidate, update = gates.chunk(3, -1)
    candidate, update = torch.tanh(torch.sigmoid(reset) * candidate), torch.sigmoid(update - 1)
    assert torch.allclose(rssm.advance(z, action, h), update * candidate + (1 - update) * h, atol=1e-6)
    assert rssm.advance(z, action, h).abs().max() < 1


def test_what_a_world_hides_is_hidden_from_the_gates_alone(rssm: RSSM) -> None:
    z, h = torch.randn(4, rssm.latent.size), torch.tanh(torch.randn(4, 6))
    action = torch.rand(4, 2)
    world = hiding(0.4, torch.rand(4, rssm.latent.size + 6))
    of_z, of_h = world.split([rssm.latent.size, 6], -1)
    found = rssm.advance(z, action, h, world)
    seen = rssm.advance(z * of_z, action, h * of_h)  # which forgets what was hidden, too
    given = rssm.input(torch.cat([z * of_z, action], -1))
    gates = rssm.gates_norm(rssm.gates(torch.cat([given, h * of_h], -1)))
    kept = 1 - torch.sigmoid(gates.chunk(3, -1)[2] - 1)
    assert torch.allclose(found - seen, kept * (h - h * of_h), atol=1e-5)
    embed, first = torch.randn(4, 5, rssm.embed_size), torch.zeros(4, 5)
    first[:, 0] = 1
    actions, noise = torch.rand(4, 5, 2), torch.rand(4, 5, rssm.latent.noise_size)
    unrolled = rssm.unroll(embed, actions, first, noise, world)
    h, z = rssm.initial(4)
    for t in range(5):
        h = rssm.advance(z, actions[:, t] * (t > 0), h, world)
        z = rssm.latent.sample(rssm.posterior(h, embed[:, t]), noise[:, t])
        assert torch.allclose(unrolled.h[:, t], h, atol=1e-5)


def test_an_episode_begins_with_the_learned_memory_and_its_likeliest_z(rssm: RSSM) -> None:
    h, z = rssm.initial(2)
    assert torch.equal(h[1], torch.tanh(rssm.start))
    assert torch.allclose(z, rssm.latent.mode(rssm.prior(h)))
    z.sum().backward() if rssm.latent.stats_size > rssm.latent.size else h.sum().backward()
    assert rssm.start.grad is not None
