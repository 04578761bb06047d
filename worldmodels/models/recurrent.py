"""M of the robust family: an RSSM on V's codes, and the pairing of a V with it as one WorldModel."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import uniform
from worldmodels.data.chunks import Chunks
from worldmodels.models.base import Dreamed, Experience, Memory, Pairing, State, Vision, in_its_precision
from worldmodels.models.codes import sample_code
from worldmodels.models.heads import RewardHead, end_loss, end_of, mlp, within
from worldmodels.models.latent import balanced_kl
from worldmodels.models.mixture import HALF_LOG_2PI
from worldmodels.models.rssm import RSSM, Recurrence
from worldmodels.models.worlds import MEMBER, WORLD, drawn_worlds, taught, world_of
from worldmodels.settings.models import RecurrentSettings, RSSMSettings

SIZES = tuple(field.name for field in dataclasses.fields(RecurrentSettings) if field.name != "free_nats")


class RSSMMemory(Memory[RSSMSettings]):
    """An RSSM with heads for reward, termination and the code that V would see.

    On codes of a VAE it learns by explaining them: the code's likelihood is part of the loss. On codes of an HRSSM it
    goes on from V's own recurrent model, and explains codes for people only, from features that it does not change.

    Args:
        settings: its own.
        embed_size: E, of V.
        code_size: Z, of V.
        action_size: A.
        explains: whether codes teach the features.
        reward_range: lowest and highest reward of the data: dreams pay no more and no less.
        losses: "paper" or "mended"; mended rewards are predicted over the data's range.
    """

    def __init__(
        self,
        settings: RSSMSettings,
        embed_size: int,
        code_size: int,
        action_size: int,
        explains: bool = True,
        reward_range: Sequence[float] = (0.0, 1.0),
        losses: str = "mended",
    ) -> None:
        super().__init__(settings)
        self.embed_size = embed_size
        self.code_size = code_size
        self.action_size = action_size
        self.explains = explains
        self.reward_range = reward_range
        self.losses = losses
        self.rssm = RSSM(settings, embed_size, action_size, members=settings.members)
        width = self.rssm.latent.size + settings.hidden_size
        bins = reward_range if losses == "mended" else None
        self.reward_head = RewardHead(width, settings.units, settings.layers, bins)
        self.end_head = mlp(width, settings.units, settings.layers, 1)
        self.code_head = mlp(width, settings.units, 1, 2 * code_size)

    @classmethod
    def settled(cls, settings: RSSMSettings, usual: RSSMSettings, vision: Vision[Any]) -> RSSMSettings:
        """See Memory: where V has a recurrent model, this goes on from that, and so has its sizes."""
        if not isinstance(vision.recurrence, Recurrence):
            return settings
        own = {name: getattr(vision.recurrence.settings, name) for name in SIZES}
        for name, value in own.items():
            asked = getattr(settings, name)
            if asked not in (value, getattr(usual, name)):
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} {asked}: an rssm goes on from V's own, which has {value}; leave it out")
        return dataclasses.replace(settings, **own)

    @classmethod
    def build(cls, settings: RSSMSettings, data: Experience, vision: Vision[Any]) -> Self:
        """See Memory."""
        sizes = vision.embed_size, vision.code_size, data.action_size
        rewards = data.rewards((0, 100))
        begun = vision.recurrence
        if not isinstance(begun, Recurrence):
            return cls(settings, *sizes, reward_range=rewards)
        # a mended head spans the rewards that V was trained on
        spanned = begun.reward_range if begun.losses == "mended" else rewards
        memory = cls(settings, *sizes, explains=False, reward_range=spanned, losses=begun.losses)
        memory.start_from(begun)
        return memory

    def start_from(self, begun: Recurrence) -> None:
        """Takes over the recurrent model and the heads that V was trained with.

        V's prior is the first member's; the others begin with all of it but its last layer.
        """
        for other in self.rssm.other_priors:
            first, _ = cast(nn.Sequential, other)
            first.load_state_dict(begun.rssm.prior_net[0].state_dict())
        own = {name: value for name, value in self.rssm.state_dict().items() if name.startswith("other_priors.")}
        self.rssm.load_state_dict(own | begun.rssm.state_dict())
        self.reward_head.load_state_dict(begun.reward_head.state_dict())
        self.end_head.load_state_dict(begun.end_head.state_dict())

    @property
    def wants(self) -> Chunks:
        """See Trainable."""
        return Chunks("embed", self.settings.sequence_length)

    def paired(self, vision: Vision[Any], starts: Tensor, precision: str) -> "RSSMWorldModel":
        """See Memory."""
        return RSSMWorldModel(vision, self, starts, precision)

    def code(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (..., Z) of the code expected at features (..., F)."""
        mu, logstd = self.code_head(feat).float().chunk(2, -1)
        return mu, logstd

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """KL + reward + termination + negative log-likelihood of codes, each in mean over steps.

        Args:
            batch: in arrival form (data/chunks.py): "embed" (B, T, E), "arrival_action" (B, T, A), "arrival_reward",
                "terminated" and "is_first" (B, T).
            carry: unused, given back.
            generator: of the codes' and the latents' noise.
        """
        rssm = self.rssm
        embed = batch["embed"].float()
        is_first = batch["is_first"].float()
        rows, steps = is_first.shape
        noise = uniform(generator, rows, steps, rssm.latent.noise_size).to(embed.device)
        code = sample_code(embed, torch.randn(rows, steps, self.code_size, generator=generator).to(embed.device))
        world = None
        if self.training and self.settings.dropout:
            size = rssm.latent.size + rssm.hidden_size
            world = drawn_worlds(self.settings.dropout, rows, size, generator, embed.device)
        states = rssm.unroll(embed, batch["arrival_action"], is_first, noise, world)
        prior = rssm.prior(states.h, self._taught(rows, generator, embed.device))
        total, kl = balanced_kl(rssm.latent, states.posterior, prior, self.settings.free_nats)
        metrics = {"kl": kl}
        mu, logstd = self.code(states.feat if self.explains else states.feat.detach())
        nll = 0.5 * ((code - mu) * (-logstd).exp()) ** 2 + logstd + HALF_LOG_2PI
        metrics["nll"] = nll.mean()  # in nats per dimension, as the MDN-RNN's, but of codes that were seen
        total = total + nll.sum(-1).mean()
        if self.settings.reward == "head":
            metrics["reward"] = self.reward_head.loss(states.feat, batch["arrival_reward"]).mean()
            total = total + metrics["reward"]
        if self.settings.termination:
            logit = self.end_head(states.feat).float().squeeze(-1)
            metrics["termination"] = end_loss(logit, batch["terminated"].float(), self.settings.termination_weight)
            total = total + metrics["termination"]
        return total, {name: value.detach() for name, value in metrics.items()}, carry

    def _taught(self, rows: int, generator: torch.Generator, device: torch.device) -> Tensor | None:
        """Which member each sequence teaches, or tests: (B, 1, 1), if there are several."""
        member = taught(self.settings.members, rows, self.training, generator, device)
        return None if member is None else member.unsqueeze(1)


class RSSMWorldModel(Pairing):
    """Any V with an RSSM (models/base.py says what the methods promise).

    The state is h, the memory of all before the present; z, which has seen the present, too; and the stats of what z
    was drawn from.
    """

    memory: RSSMMemory

    def __init__(self, vision: Vision[Any], memory: RSSMMemory, starts: Tensor, precision: str) -> None:
        super().__init__(vision, memory, starts, precision)
        latent = memory.rssm.latent
        hidden_size = memory.settings.hidden_size
        self.noise_size = latent.noise_size
        self.worlds = latent.size + hidden_size if memory.settings.dropout else 0
        self.members = memory.settings.members
        self.rows_per_core = 256 if hidden_size >= 512 else 512  # small nets need more to hide the calls
        self.feat_sizes = {"z": latent.size, "probs": latent.size, "h": hidden_size}
        if not memory.explains:  # HRSSM's, as V's training left it
            self.feat_sizes["projection"] = memory.rssm.projection.out_features
        self.default_inputs = ("h",)  # z adds nothing that a linear map finds (docs/results.md)

    @in_its_precision
    def initial(self, batch_size: int) -> State:
        h, z = self.memory.rssm.initial(batch_size)
        return {"h": h.contiguous(), "z": z, "stats": self.memory.rssm.prior(h)}

    @in_its_precision
    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        h, z, stats = self.memory.rssm.observe(state["h"], state["z"], action, is_first, embed, noise)
        return {"h": h, "z": z, "stats": stats}

    @in_its_precision
    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        rssm = self.memory.rssm
        h = rssm.advance(state["z"], action, state["h"], state.get(WORLD))
        stats = rssm.prior(h, state.get(MEMBER))
        z = rssm.latent.sample(stats, noise, tau)
        reward, logit = self.expected(z, h)
        end, terminated = end_of(logit, self.memory.settings.termination_weight)
        return Dreamed({"h": h, "z": z, "stats": stats} | world_of(state), reward, end, terminated)

    def expected(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Reward (B,) and the end's logit (B,) in states of z (B, Z) and h (B, H)."""
        memory = self.memory
        settings = memory.settings
        feat = torch.cat([z, h], -1)
        if settings.reward == "head":
            reward = within(memory.reward_head(feat), *memory.reward_range)
        else:
            reward = torch.full_like(h[:, 0], float(settings.reward == "alive"))
        if settings.termination:
            logit = memory.end_head(feat).float().squeeze(-1)
        else:
            logit = torch.full_like(reward, -torch.inf)
        return reward, logit

    @in_its_precision
    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return torch.cat([self._part(state, part) for part in parts], -1)

    @in_its_precision
    def decode(self, state: State) -> Tensor:
        mean, _ = self.memory.code(torch.cat([state["z"], state["h"]], -1))
        return self.vision.decode(mean)

    def _part(self, state: State, part: str) -> Tensor:
        if part == "probs":
            return self.memory.rssm.latent.center(state["stats"])
        if part == "projection":  # trained in direction only
            projection = self.memory.rssm.projection(torch.cat([state["z"], state["h"]], -1))
            return F.normalize(projection.float(), dim=-1)
        return state[part]
