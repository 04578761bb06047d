"""V: the variational auto-encoder of World Models (CLASSIC 1.3; paper, appendix A.1)."""

from typing import Self

import torch
from torch import Tensor, nn

from worldmodels.data.frames import Frames
from worldmodels.models.base import Experience, State, Vision
from worldmodels.models.codes import sample_code
from worldmodels.models.fast.convolutions import Halving
from worldmodels.models.pictures import PictureDecoder, to_input, to_obs
from worldmodels.settings.models import VAESettings


class VAE(Vision[VAESettings]):
    """Convolutional VAE of 64x64 pictures; 4,348,547 numbers with a code of 32, 4,446,915 with 64.

    The floor of its divergence is applied to the sum per picture. It leaves dimensions that the pictures do not need at
    their prior, N(0, 1).
    """

    wants = Frames()

    def __init__(self, settings: VAESettings) -> None:
        super().__init__(settings)
        self.code_size = code_size = settings.code_size
        self.embed_size = 2 * code_size
        self.encoder = nn.Sequential(
            Halving(3, 32, 4),  # 64 -> 31
            nn.ReLU(),
            Halving(32, 64, 4),  # -> 14
            nn.ReLU(),
            Halving(64, 128, 4),  # -> 6
            nn.ReLU(),
            Halving(128, 256, 4),  # -> 2
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mu = nn.Linear(1024, code_size)
        self.logvar = nn.Linear(1024, code_size)
        self.decoder = PictureDecoder(code_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                module.bias.data.zero_()  # type: ignore[union-attr]

    @classmethod
    def build(cls, settings: VAESettings, data: Experience) -> Self:
        """See Vision."""
        return cls(settings)

    def encode(self, obs: Tensor) -> Tensor:
        """uint8 (..., 64, 64, 3) -> float32 (..., 2Z): [mu, logvar]."""
        hidden = self.encoder(to_input(obs.reshape(-1, *obs.shape[-3:])))
        embed = torch.cat([self.mu(hidden), self.logvar(hidden)], -1).float()
        return embed.reshape(*obs.shape[:-3], -1)

    def decode(self, z: Tensor) -> Tensor:
        """float32 (..., Z) -> uint8 (..., 64, 64, 3)."""
        return to_obs(self.decoder(z))

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """Squared error summed over pixels plus the KL divergence above its floor, in mean over pictures.

        With `focus`, what is drawn worse than most weighs more: else the few pixels that matter, a fireball's, drown
        among those of the walls.

        Args:
            batch: "obs" uint8 (B, 64, 64, 3).
            carry: unused, given back.
            generator: where the codes' noise comes from.
        """
        target = to_input(batch["obs"])
        hidden = self.encoder(target)
        mu = self.mu(hidden).float()
        logvar = self.logvar(hidden).float()
        noise = torch.randn(mu.shape, generator=generator).to(mu.device)
        z = sample_code(torch.cat([mu, logvar], -1), noise)
        errors = (self.decoder(z) - target).square()  # (B, 3, 64, 64)
        error = errors.detach().sum() / len(target)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)  # (B,)
        floored = kl.clamp_min(self.settings.kl_floor * self.code_size).mean()
        total = (self._weights(errors.detach()) * errors).sum() / len(target) + floored
        return total, {"reconstruction": error, "kl": kl.detach().mean()}, carry

    def _weights(self, errors: Tensor) -> Tensor:
        """How much each of the squared `errors` counts. They are what most of a picture is: walls and floor."""
        if not self.settings.focus:
            return torch.ones_like(errors[:1, :1, :1, :1])
        return 1 + (errors / errors.mean().clamp_min(1e-12)).clamp_max(self.settings.focus)
