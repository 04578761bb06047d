"""HRSSM: an encoder that learns what matters for the task and ignores what merely moves (HRSSM sections 1 to 3).

Two branches. The masked one is trained: it sees frames with cubes greyed out, and unrolls the recurrence. The raw one
is an exponential moving average of it, sees the clean frames, and shares the masked branch's memory h. No decoder: what
is learnt, is learnt from rewards, terminals, the KL divergence, the raw branch's latents, and bisimulation.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.core.seeding import uniform
from worldmodels.data.chunks import Chunks
from worldmodels.models import bisimulation, masks
from worldmodels.models.base import Experience, State, Vision
from worldmodels.models.heads import EPS, RewardHead, mlp
from worldmodels.models.latent import balanced_kl
from worldmodels.models.pictures import PictureDecoder, to_input, to_obs
from worldmodels.models.rssm import RSSM, Recurrence, Unrolled
from worldmodels.settings.models import HRSSMSettings

EMA_RATE = 0.05
INFERENCE = 0.5  # weight of the mended form's divergence between what both branches infer
DECODED_FRAMES = 32  # per update, that the decoder learns from


class Encoder(nn.Module):
    """Four convolutions with LayerNorm over channels (HRSSM 1.1); 690,624 numbers at depth 32 without a code.

    Args:
        depth: channels of the first convolution; they double with each.
        code_size: of a linear bottleneck whose numbers have mean 0 and variance 1 over frames; 0 for none.
    """

    def __init__(self, depth: int, code_size: int = 0) -> None:
        super().__init__()
        channels = [3, depth, 2 * depth, 4 * depth, 8 * depth]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 4, 2, padding=1, bias=False) for i, o in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(o, EPS) for o in channels[1:])
        flat = 16 * channels[-1]
        # Normalised over frames, not within one: what all frames share would else drown what tells them apart, and a
        # toy task that takes 100 steps with it is not begun to be learnt in 360.
        self.code: nn.Module = nn.Identity()
        if code_size:
            self.code = nn.Sequential(nn.Linear(flat, code_size, bias=False), nn.BatchNorm1d(code_size, affine=False))
        self.embed_size = code_size or flat

    def forward(self, picture: Tensor) -> Tensor:
        """float32 (N, 3, 64, 64) in [-0.5, 0.5] -> float32 (N, E)."""
        x = picture.contiguous(memory_format=torch.channels_last)  # then so are all that follow
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x).permute(0, 2, 3, 1))  # channels last: normalised over them
            x = F.silu(x).permute(0, 3, 1, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.code(x).float()


class HRSSM(Vision[HRSSMSettings]):
    """Vision of the robust family, trained with a recurrent model of its own, from which stage 3 goes on.

    Its mended losses: models/bisimulation.py says how; rewards are predicted over the data's range; and the masked
    branch is to infer what the raw one does, in nats (the published cosine is met by h, which both share, whatever is
    inferred).

    Args:
        settings: its own.
        action_size: A.
        reward_range: lowest and highest reward of the data.
        usual_rewards: the range that most of them lie in; differences within it tell states apart.
    """

    def __init__(
        self,
        settings: HRSSMSettings,
        action_size: int,
        reward_range: Sequence[float] = (0.0, 1.0),
        usual_rewards: Sequence[float] = (0.0, 1.0),
    ) -> None:
        super().__init__(settings)
        self.action_size, self.reward_range, self.usual_rewards = action_size, reward_range, usual_rewards
        self.mask_ratio = settings.mask_ratio if settings.mask else 0.0
        bins = reward_range if settings.losses == "mended" else None
        self.encoder = Encoder(settings.depth, settings.code_size)
        self.embed_size = self.code_size = self.encoder.embed_size
        self.rssm = RSSM(settings, self.embed_size, action_size)
        width = self.rssm.latent.size + settings.hidden_size
        self.reward_head = RewardHead(width, settings.units, settings.layers, bins)
        self.end_head = mlp(width, settings.units, settings.layers, 1)
        self.decoder = PictureDecoder(self.code_size)  # for people: it learns from codes, and teaches them nothing
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.target_rssm = copy.deepcopy(self.rssm).requires_grad_(False)

    @classmethod
    def build(cls, settings: HRSSMSettings, data: Experience) -> Self:
        """See Vision."""
        return cls(settings, data.action_size, data.rewards((0, 100)), data.rewards((5, 95)))

    @property
    def wants(self) -> Chunks:
        """See Trainable."""
        return Chunks("obs", self.settings.sequence_length)

    @property
    def recurrence(self) -> Recurrence:
        """See Vision: of the branch that V sees with."""
        return Recurrence(
            self.settings, self.settings.losses, self.reward_range, self.target_rssm, self.reward_head, self.end_head
        )

    def encode(self, obs: Tensor) -> Tensor:
        """uint8 (..., 64, 64, 3) -> float32 (..., E), by the moving average: the branch that sees clean frames."""
        return self.target_encoder(_centred(obs)).reshape(*obs.shape[:-3], -1)

    def decode(self, z: Tensor) -> Tensor:
        """float32 (..., Z) -> uint8 (..., 64, 64, 3)."""
        return to_obs(self.decoder(z))

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """Reward + termination + KL + latent reconstruction + bisimulation, each in mean (HRSSM section 3).

        Args:
            batch: in arrival form (data/chunks.py): "obs" uint8 (B, T, 64, 64, 3), "arrival_action" (B, T, A) and
                "arrival_reward" (B, T), "terminated" and "is_first" (B, T).
            carry: unused, given back.
            generator: of the mask and the latents' noise.
        """
        rssm, obs, is_first = self.rssm, batch["obs"], batch["is_first"].float()
        action = batch["arrival_action"]
        rows, steps = is_first.shape
        device = is_first.device
        noise = uniform(generator, 4, rows, steps, rssm.latent.noise_size).to(device)
        clean = _centred(obs).unflatten(0, (rows, steps))
        visible = masks.cubes(steps, self.mask_ratio, clean.shape[-1], generator).to(device)
        visible = visible.unsqueeze(-1).repeat(1, 1, 1, 3).movedim(-1, 1)  # laid out as the frames: half the time
        embed = self.encoder((clean * visible).flatten(0, 1)).unflatten(0, (rows, steps))
        masked = rssm.unroll(embed, action, is_first, noise[0])
        prior = rssm.prior(masked.h)
        raw_embed, raw_posterior, raw, raw_next = self._raw(clean, masked, action, is_first, noise[1:3])
        kl_loss, kl = balanced_kl(rssm.latent, masked.posterior, prior, self.settings.free_nats)
        reward_loss = self.reward_head.loss(masked.feat, batch["arrival_reward"]).mean()
        end_logit = self.end_head(masked.feat).float().squeeze(-1)
        end_loss = F.binary_cross_entropy_with_logits(end_logit, batch["terminated"].float())
        latents = bisimulation.reconstruction(rssm.projection(masked.feat), self.target_rssm.projection(raw))
        decoded = self._decoder_loss(raw_embed, clean)
        total = reward_loss + end_loss + kl_loss + latents + decoded
        metrics = {"reward": reward_loss, "termination": end_loss, "kl": kl}
        metrics |= {"reconstruction": latents, "decoder": decoded}
        if self.settings.losses == "mended":
            metrics["inference"] = rssm.latent.kl(raw_posterior, masked.posterior).mean()
            total = total + INFERENCE * metrics["inference"]
        if self.settings.bisimulation:
            masked_next = torch.cat([rssm.latent.sample(prior, noise[3]), masked.h], -1)
            metrics["bisimulation"] = bisimulation.loss(
                masked.feat[:, :-1].flatten(0, 1), raw[:, :-1].flatten(0, 1), masked_next[:, 1:].flatten(0, 1),
                raw_next.flatten(0, 1), batch["arrival_reward"][:, :-1].flatten(),
                batch["terminated"][:, :-1].float().flatten(), is_first[:, 1:].flatten(), self.settings.losses,
                self.usual_rewards,
            )  # fmt: skip
            total = total + metrics["bisimulation"]
        return total, {name: value.detach() for name, value in metrics.items()}, carry

    @torch.no_grad()
    def after_step(self) -> None:
        """Moves the raw branch towards the masked one."""
        for target, online in ((self.target_encoder, self.encoder), (self.target_rssm, self.rssm)):
            for old, new in zip(target.parameters(), online.parameters(), strict=True):
                old.lerp_(new, EMA_RATE)

    @torch.no_grad()
    def _raw(
        self, clean: Tensor, masked: Unrolled, action: Tensor, is_first: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The raw branch: embeddings (B, T, E) of clean frames, what it infers from them (B, T, D), features
        (B, T, F), and the features (B, T-1, F) that it expects one step after each."""
        target, latent = self.target_rssm, self.target_rssm.latent
        embed = self.target_encoder(clean.flatten(0, 1)).unflatten(0, clean.shape[:2])
        posterior = target.posterior(masked.h, embed)
        z = latent.sample(posterior, noise[0])
        first = is_first[:, 1:, None]
        h0, z0 = (x.expand(*first.shape[:2], -1) for x in target.initial(1))
        before_h, before_z = torch.lerp(masked.h[:, :-1], h0, first), torch.lerp(z[:, :-1], z0, first)
        h = target.advance(before_z, action[:, 1:] * (1 - first), before_h)
        following = latent.sample(target.prior(h), noise[1, :, 1:])
        return embed, posterior, torch.cat([z, masked.h], -1), torch.cat([following, h], -1)

    def _decoder_loss(self, embed: Tensor, clean: Tensor) -> Tensor:
        """Squared error per pixel of the decoder on frames spread over the batch."""
        embed, clean = embed.detach().flatten(0, 1), clean.flatten(0, 1)
        stride = max(1, math.ceil(len(embed) / DECODED_FRAMES))
        return F.mse_loss(self.decoder(embed[::stride]), clean[::stride] + 0.5)


def _centred(obs: Tensor) -> Tensor:
    """uint8 (..., 64, 64, 3) -> float32 (N, 3, 64, 64) in [-0.5, 0.5], where a greyed pixel is 0."""
    return to_input(obs) - 0.5
