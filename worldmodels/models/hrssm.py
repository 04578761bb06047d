"""HRSSM: an encoder that learns what matters for the task and ignores what merely moves (HRSSM sections 1 to 3).

Two branches. The masked one is trained: it sees frames with cubes greyed out, and unrolls the recurrence. The raw one
is an exponential moving average of it, sees the clean frames, and shares the masked branch's memory h. No decoder: what
is learnt, is learnt from rewards, terminals, the KL divergence, the raw branch's latents, and bisimulation.
"""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

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
COLLAPSED = 0.5  # of the free nats, below which features tell next to nothing of frames
RECENT = 0.01  # of how large returns are, that a batch tells
SMALLEST_STD = 1e-3  # of returns, as a share of their size: those that differ by less are alike
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
        embed: Tensor = self.code(x.permute(0, 2, 3, 1).flatten(1))
        return embed.float()


class Foresight(nn.Module):
    """What will be paid over K horizons, from features; in standard deviations of the data, about its mean.

    Args:
        feat_size: F.
        units, layers: of the network.
        horizons: K.
    """

    sums: Tensor

    def __init__(self, feat_size: int, units: int, layers: int, horizons: int) -> None:
        super().__init__()
        self.net = mlp(feat_size, units, layers, horizons)
        # of how many was known, their sum, and that of their squares; older batches count less and less
        self.register_buffer("sums", torch.zeros(3, horizons, dtype=torch.float64))

    @torch.no_grad()
    def standard(self, ahead: Tensor) -> Tensor:
        """Returns (B, T, K) as they are to be foreseen; not a number where they are unknown.

        How large they are it learns in training, of all batches so far, the last hundred above all.
        """
        if self.training:
            known = (~ahead.isnan()).double()
            value = ahead.nan_to_num().double()
            batch = torch.stack([known, value, value**2]).sum((1, 2))
            self.sums.mul_(1 - RECENT).add_(batch)
        count, total, squares = self.sums
        mean = total / count.clamp_min(1e-9)
        square = squares / count.clamp_min(1e-9)
        std = (square - mean**2).clamp_min(0).sqrt().maximum(SMALLEST_STD * square.sqrt())
        standard: Tensor = (ahead - mean) / torch.where(std > 0, std, 1.0)
        return standard.float()

    def loss(self, feat: Tensor, wanted: Tensor) -> Tensor:
        """Squared error of what is foreseen at features (B, T, F), in mean over what is known."""
        error = (self.net(feat).float() - wanted.nan_to_num()).square()
        known = ~wanted.isnan()
        total: Tensor = (error * known).sum() / known.sum().clamp_min(1)
        return total


class Raw(NamedTuple):
    """What the raw branch makes of B sequences of T frames."""

    embed: Tensor  # (B, T, E), of the clean frames
    posterior: Tensor  # (B, T, D), stats of what it infers from them
    feat: Tensor  # (B, T, F)
    next_feat: Tensor  # (B, T-1, F), what it expects one step after each but the last


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
        self.action_size = action_size
        self.reward_range = reward_range
        self.usual_rewards = usual_rewards
        self.mask_ratio = settings.mask_ratio if settings.mask else 0.0
        bins = reward_range if settings.losses == "mended" else None
        self.encoder = Encoder(settings.depth, settings.code_size)
        self.embed_size = self.code_size = self.encoder.embed_size
        self.rssm = RSSM(settings, self.embed_size, action_size)
        width = self.rssm.latent.size + settings.hidden_size
        self.reward_head = RewardHead(width, settings.units, settings.layers, bins)
        self.end_head = mlp(width, settings.units, settings.layers, 1)
        if settings.foresight:
            self.foresight = Foresight(width, settings.units, settings.layers, len(settings.foresight))
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
        return Chunks("obs", self.settings.sequence_length, self.settings.foresight)

    @property
    def recurrence(self) -> Recurrence:
        """See Vision: of the branch that V sees with."""
        return Recurrence(
            self.settings,
            self.settings.losses,
            self.reward_range,
            self.target_rssm,
            self.reward_head,
            self.end_head,
        )

    def doubt(self, held_out: Mapping[str, float]) -> str:
        """See Vision: whether what is inferred from frames is no further from what was expected than is free."""
        kl = held_out.get("kl", math.inf)
        free = self.settings.free_nats
        if not kl < COLLAPSED * free:
            return ""
        return (
            f"V has collapsed: it infers {kl:.2f} nats a step from frames, of {free:g} that cost nothing, so its"
            " features tell next to nothing of them; where rewards are constant or rare, nothing teaches it"
        )

    def encode(self, obs: Tensor) -> Tensor:
        """uint8 (..., 64, 64, 3) -> float32 (..., E), by the moving average: the branch that sees clean frames."""
        embed: Tensor = self.target_encoder(_centred(obs))
        return embed.reshape(*obs.shape[:-3], -1)

    def decode(self, z: Tensor) -> Tensor:
        """float32 (..., Z) -> uint8 (..., 64, 64, 3)."""
        return to_obs(self.decoder(z))

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """Reward + termination + KL + latent reconstruction + bisimulation, each in mean (HRSSM section 3).

        Args:
            batch: in arrival form (data/chunks.py): "obs" uint8 (B, T, 64, 64, 3), "arrival_action" (B, T, A) and
                "arrival_reward" (B, T), "terminated" and "is_first" (B, T); with --foresight "ahead" (B, T, K).
            carry: unused, given back.
            generator: of the mask and the latents' noise.
        """
        rows, steps = batch["is_first"].shape
        noise = uniform(generator, 4, rows, steps, self.rssm.latent.noise_size).to(batch["is_first"].device)
        clean = _centred(batch["obs"]).unflatten(0, (rows, steps))
        masked = self._masked(clean, batch, noise[0], generator)
        prior = self.rssm.prior(masked.h)
        raw = self._raw(clean, masked, batch, noise[1:3])
        kl_loss, kl = balanced_kl(self.rssm.latent, masked.posterior, prior, self.settings.free_nats)
        reward, termination = self._head_losses(masked, batch)
        reconstruction = self._reconstruction_loss(masked, raw)
        decoder = self._decoder_loss(raw.embed, clean)
        total = reward + termination + kl_loss + reconstruction + decoder
        metrics = {
            "reward": reward,
            "termination": termination,
            "kl": kl,
            "reconstruction": reconstruction,
            "decoder": decoder,
        }
        if self.settings.losses == "mended":
            metrics["inference"] = self.rssm.latent.kl(raw.posterior, masked.posterior).mean()
            total = total + INFERENCE * metrics["inference"]
        ahead = None
        if self.settings.foresight:
            ahead = self.foresight.standard(batch["ahead"])
            metrics["foresight"] = self.foresight.loss(masked.feat, ahead)
            total = total + metrics["foresight"]
        if self.settings.bisimulation:
            metrics["bisimulation"] = self._bisimulation_loss(masked, prior, raw, batch, noise[3], ahead)
            total = total + metrics["bisimulation"]
        return total, {name: value.detach() for name, value in metrics.items()}, carry

    @torch.no_grad()
    def after_step(self) -> None:
        """Moves the raw branch towards the masked one."""
        for target, online in ((self.target_encoder, self.encoder), (self.target_rssm, self.rssm)):
            for old, new in zip(target.parameters(), online.parameters(), strict=True):
                old.lerp_(new, EMA_RATE)

    def _masked(self, clean: Tensor, batch: dict[str, Tensor], noise: Tensor, generator: torch.Generator) -> Unrolled:
        """The masked branch: the states that it infers from frames (B, T, 3, 64, 64) of which it sees a part."""
        rows, steps = clean.shape[:2]
        visible = self._visible(clean, batch["is_first"], generator).to(clean.device)
        visible = visible.unsqueeze(-1).repeat_interleave(3, -1)
        visible = visible.movedim(-1, -3)  # laid out as the frames: half the time
        embed = self.encoder((clean * visible).flatten(0, 1)).unflatten(0, (rows, steps))
        return self.rssm.unroll(embed, batch["arrival_action"], batch["is_first"].float(), noise)

    def _visible(self, clean: Tensor, is_first: Tensor, generator: torch.Generator) -> Tensor:
        """What the masks leave of frames (B, T, 3, 64, 64): (T, 64, 64), or (B, T, 64, 64)."""
        if self.mask_ratio and self.settings.mask_spares == "motion":
            return masks.cubes_that_spare_motion(clean, is_first, self.mask_ratio, generator)
        return masks.cubes(clean.shape[1], self.mask_ratio, clean.shape[-1], generator)

    @torch.no_grad()
    def _raw(self, clean: Tensor, masked: Unrolled, batch: dict[str, Tensor], noise: Tensor) -> Raw:
        """The raw branch, on clean frames (B, T, 3, 64, 64), with the masked branch's h."""
        target = self.target_rssm
        latent = target.latent
        embed = self.target_encoder(clean.flatten(0, 1)).unflatten(0, clean.shape[:2])
        posterior = target.posterior(masked.h, embed)
        z = latent.sample(posterior, noise[0])
        first = batch["is_first"].float()[:, 1:, None]
        h0, z0 = (x.expand(*first.shape[:2], -1) for x in target.initial(1))
        before_h = torch.lerp(masked.h[:, :-1], h0, first)
        before_z = torch.lerp(z[:, :-1], z0, first)
        h = target.advance(before_z, batch["arrival_action"][:, 1:] * (1 - first), before_h)
        following = latent.sample(target.prior(h), noise[1, :, 1:])
        return Raw(embed, posterior, torch.cat([z, masked.h], -1), torch.cat([following, h], -1))

    def _head_losses(self, masked: Unrolled, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Of the reward, and of termination."""
        reward = self.reward_head.loss(masked.feat, batch["arrival_reward"]).mean()
        logit = self.end_head(masked.feat).float().squeeze(-1)
        return reward, F.binary_cross_entropy_with_logits(logit, batch["terminated"].float())

    def _reconstruction_loss(self, masked: Unrolled, raw: Raw) -> Tensor:
        """How far the masked branch's features are from the raw one's, both projected."""
        return bisimulation.reconstruction(self.rssm.projection(masked.feat), self.target_rssm.projection(raw.feat))

    def _bisimulation_loss(
        self,
        masked: Unrolled,
        prior: Tensor,
        raw: Raw,
        batch: dict[str, Tensor],
        noise: Tensor,
        ahead: Tensor | None,
    ) -> Tensor:
        """Of all states but the last of each sequence: what follows that, nobody knows."""
        masked_next = torch.cat([self.rssm.latent.sample(prior, noise), masked.h], -1)
        return bisimulation.loss(
            online=masked.feat[:, :-1].flatten(0, 1),
            target=raw.feat[:, :-1].flatten(0, 1),
            online_next=masked_next[:, 1:].flatten(0, 1),
            target_next=raw.next_feat.flatten(0, 1),
            reward=batch["arrival_reward"][:, :-1].flatten(),
            terminated=batch["terminated"][:, :-1].float().flatten(),
            ends=batch["is_first"][:, 1:].float().flatten(),
            form=self.settings.losses,
            usual_rewards=self.usual_rewards,
            ahead=None if ahead is None else ahead[:, :-1].flatten(0, 1),
        )

    def _decoder_loss(self, embed: Tensor, clean: Tensor) -> Tensor:
        """Squared error per pixel of the decoder on frames spread over the batch."""
        embed = embed.detach().flatten(0, 1)
        clean = clean.flatten(0, 1)
        stride = max(1, math.ceil(len(embed) / DECODED_FRAMES))
        return F.mse_loss(self.decoder(embed[::stride]), clean[::stride] + 0.5)


def _centred(obs: Tensor) -> Tensor:
    """uint8 (..., 64, 64, 3) -> float32 (N, 3, 64, 64) in [-0.5, 0.5], where a greyed pixel is 0."""
    return to_input(obs) - 0.5
