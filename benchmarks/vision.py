"""Updates of V, beside the same net written as usual, and beside products of as many operations."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.measure import Row, work
from benchmarks.products import at_peak, operations
from benchmarks.training import plain_update, update
from worldmodels.models.vae import VAE
from worldmodels.settings.models import VAESettings

BATCH, UPDATES = 32, 8


def rows() -> Iterator[Row]:
    obs = torch.randint(0, 256, (BATCH, 64, 64, 3), dtype=torch.uint8)
    vae, plain = VAE(VAESettings(code_size=64)), PlainVAE(64)
    ours, reference = update(vae, {"obs": obs}), plain_update(plain, lambda: plain.loss(obs))
    flops = operations(lambda: plain.loss(obs).backward())
    frames = BATCH * UPDATES
    yield Row(
        "V training", "frames/s", work(frames, ours, UPDATES), work(frames, reference, UPDATES),
        work(frames, at_peak(UPDATES * flops)), times_reference=2.0,
    )  # fmt: skip


class PlainVAE(nn.Module):
    """The same net: fp32, eager, contiguous, transposed convolutions."""

    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 4, 2), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 128, 4, 2), nn.ReLU(),
            nn.Conv2d(128, 256, 4, 2), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.mu, self.logvar = nn.Linear(1024, code_size), nn.Linear(1024, code_size)
        self.decoder = nn.Sequential(
            nn.Linear(code_size, 1024), nn.Unflatten(1, (1024, 1, 1)), nn.ConvTranspose2d(1024, 128, 5, 2), nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, 2), nn.ReLU(), nn.ConvTranspose2d(64, 32, 6, 2), nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 6, 2), nn.Sigmoid(),
        )  # fmt: skip

    def loss(self, obs: torch.Tensor) -> torch.Tensor:
        picture = obs.permute(0, 3, 1, 2).contiguous().float() / 255
        hidden = self.encoder(picture)
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        return F.mse_loss(self.decoder(z), picture, reduction="sum") / len(obs) + kl
