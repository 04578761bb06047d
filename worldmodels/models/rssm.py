"""The recurrent state-space model: a memory h, and a code z that is inferred from what is seen or sampled from what h
expects (HRSSM 1.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.models.fast.activations import tanh
from worldmodels.models.heads import EPS, Dense, RewardHead
from worldmodels.models.latent import Categorical, Gaussian, Latent
from worldmodels.models.worlds import by_member, shown
from worldmodels.settings.models import RecurrentSettings


class Unrolled(NamedTuple):
    """States of B sequences of T steps."""

    h: Tensor  # (B, T, H)
    z: Tensor  # (B, T, Z), sampled from the posterior
    posterior: Tensor  # (B, T, D), its stats (latent.py)

    @property
    def feat(self) -> Tensor:
        """(B, T, Z + H)."""
        return torch.cat([self.z, self.h], -1)


class RSSM(nn.Module):
    """5,828,096 numbers at the authors' size (h 512, z 32 x 32, embed 4096, six actions).

    Args:
        settings: its sizes.
        embed_size: E.
        action_size: A.
        projection_size: of the projection that HRSSM's latent reconstruction compares.
        members: of an ensemble, each of which expects another z.
    """

    def __init__(
        self,
        settings: RecurrentSettings,
        embed_size: int,
        action_size: int,
        projection_size: int = 32,
        members: int = 1,
    ) -> None:
        super().__init__()
        hidden_size = settings.hidden_size
        units = settings.units
        groups = settings.groups
        self.embed_size = embed_size
        self.action_size = action_size
        self.hidden_size = hidden_size
        self.latent: Latent = Categorical(groups, settings.classes) if settings.classes else Gaussian(groups)
        size = self.latent.size
        stats_size = self.latent.stats_size
        self.input = Dense(size + action_size, units)
        self.gates = nn.Linear(units + hidden_size, 3 * hidden_size, bias=False)
        self.gates_norm = nn.LayerNorm(3 * hidden_size, EPS)
        self.prior_net, *others = (
            nn.Sequential(Dense(hidden_size, units), nn.Linear(units, stats_size)) for _ in range(members)
        )
        self.other_priors = nn.ModuleList(others)
        self.posterior_in = Dense(hidden_size + embed_size, units)
        self.posterior_out = nn.Linear(units, stats_size)
        self.start = nn.Parameter(torch.zeros(hidden_size))
        self.projection = nn.Linear(size + hidden_size, projection_size, bias=False)

    def initial(self, rows: int) -> tuple[Tensor, Tensor]:
        """h (B, H) and z (B, Z) before anything was seen: learned, and the likeliest z there, by the first prior."""
        h = torch.tanh(self.start).expand(rows, -1)
        return h, self.latent.mode(self.prior(h))

    def advance(self, z: Tensor, action: Tensor, h: Tensor, world: Tensor | None = None) -> Tensor:
        """The next memory, from z (..., Z), the action (..., A) taken there, and h (..., H).

        `world` (..., Z + H) hides a part of z and h (worlds.py: shown). Actions beyond 1 are scaled back, and their
        gradient by as much: it does not end there.
        """
        action = action / action.detach().abs().clamp_min(1)
        z, seen = shown(z, h, world)
        return self._gru(self.input(torch.cat([z, action], -1)), h, seen)

    def prior(self, h: Tensor, member: Tensor | None = None) -> Tensor:
        """What z is expected to be, by each row's `member` (..., 1), else by the first: stats (..., D)."""
        return by_member([self.prior_net, *self.other_priors], h, member).float()

    def posterior(self, h: Tensor, embed: Tensor) -> Tensor:
        """What z is, given what is seen: stats (..., D) from h (..., H) and embed (..., E)."""
        stats: Tensor = self.posterior_out(self.posterior_in(torch.cat([h, embed], -1)))
        return stats.float()

    def observe(
        self, h: Tensor, z: Tensor, action: Tensor, is_first: Tensor, embed: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step with eyes open: h, z and the posterior's stats, from the previous h, z and action (B, ...)."""
        h0, z0 = self.initial(len(h))
        h = torch.lerp(h, h0, is_first)
        z = torch.lerp(z, z0, is_first)
        h = self.advance(z, action * (1 - is_first), h)
        stats = self.posterior(h, embed)
        return h, self.latent.sample(stats, noise), stats

    def unroll(
        self, embed: Tensor, action: Tensor, is_first: Tensor, noise: Tensor, world: Tensor | None = None
    ) -> Unrolled:
        """All steps of B sequences with eyes open.

        What the embeddings and actions contribute is one matrix product each, before the loop over time.

        Args:
            embed: (B, T, E).
            action: (B, T, A), the *previous* action of each step.
            is_first: (B, T), 1 where an episode begins.
            noise: uniform (B, T, N).
            world: (B, Z + H), which hides a part of z and h at every step; None hides nothing.
        """
        rows, steps = is_first.shape
        first = is_first.float().T.unsqueeze(-1)  # (T, B, 1)
        h0, z0 = self.initial(rows)
        h = h0
        z = z0
        z_weight, action_weight = self.input.linear.weight.split([self.latent.size, self.action_size], 1)
        h_weight, embed_weight = self.posterior_in.linear.weight.split([self.hidden_size, self.embed_size], 1)
        act = action.transpose(0, 1) * (1 - first)
        act = F.linear(act / act.abs().clamp_min(1), action_weight)
        seen = F.linear(embed.transpose(0, 1), embed_weight)
        drawn = noise.transpose(0, 1)
        hs = []
        zs = []
        posteriors = []
        for t in range(steps):
            h = torch.lerp(h, h0, first[t])
            z = torch.lerp(z, z0, first[t])
            seen_z, seen_h = shown(z, h, world)
            h = self._gru(self.input.act(F.linear(seen_z, z_weight) + act[t]), h, seen_h)
            posterior = self.posterior_out(self.posterior_in.act(F.linear(h, h_weight) + seen[t])).float()
            z = self.latent.sample(posterior, drawn[t])
            hs.append(h)
            zs.append(z)
            posteriors.append(posterior)
        return Unrolled(torch.stack(hs, 1), torch.stack(zs, 1), torch.stack(posteriors, 1))

    def _gru(self, x: Tensor, h: Tensor, shown_h: Tensor) -> Tensor:
        """The authors' GRU cell: LayerNorm over all gates, an update gate biased by -1.

        Gates see `shown_h`, but what is kept is h itself: what is hidden is made up for by more of the rest, and that
        would grow from step to step.
        """
        gates = self.gates_norm(self.gates(torch.cat([x, shown_h], -1)).float())
        reset, candidate, update = gates.chunk(3, -1)
        candidate = tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(h, candidate, torch.sigmoid(update - 1))


class Recurrence(NamedTuple):
    """What a V was trained with, from which an M can go on."""

    settings: RecurrentSettings
    losses: str  # "paper" or "mended": which rewards its head can tell
    reward_range: Sequence[float]  # lowest and highest reward that it met
    rssm: RSSM  # of the branch that V sees with
    reward_head: RewardHead
    end_head: nn.Module
