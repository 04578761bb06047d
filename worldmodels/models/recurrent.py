"""M of the robust family: an RSSM on V's codes, and the pairing of a V with it as one WorldModel."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.core.seeding import uniform
from worldmodels.models.base import Dreamed, State, Vision, end_loss, end_of, in_its_precision, sample_code
from worldmodels.models.heads import RewardHead, mlp
from worldmodels.models.hrssm import HRSSM
from worldmodels.models.latent import balanced_kl
from worldmodels.models.mixture import HALF_LOG_2PI
from worldmodels.models.rssm import RSSM


class RSSMMemory(nn.Module):
    """An RSSM with heads for reward, termination and the code that V would see.

    On codes of a VAE it learns by explaining them: the code's likelihood is part of the loss. On codes of an HRSSM it
    goes on from V's own recurrent model, and explains codes for people only, from features that it does not change.

    Args:
        embed_size: E, of V.
        code_size: Z, of V.
        action_size: A.
        hidden_size, groups, classes, units: of the RSSM.
        layers: of the heads.
        explains: whether codes teach the features.
        reward: "head" predicts it; "alive" is 1 per step; "none" is 0.
        termination: whether to predict the end of the episode.
        termination_weight: of terminal steps in that prediction's loss.
        free_nats: of the KL divergence.
        reward_range: lowest and highest reward of the data: dreams pay no more and no less.
        losses: "paper" or "mended"; mended rewards are predicted over the data's range.
    """

    family = "rssm"

    def __init__(
        self, embed_size: int, code_size: int, action_size: int, hidden_size: int, groups: int, classes: int,
        units: int, layers: int = 2, explains: bool = True, reward: str = "head", termination: bool = True,
        termination_weight: float = 1.0, free_nats: float = 1.0, reward_range: Sequence[float] = (0.0, 1.0),
        losses: str = "mended",
    ) -> None:  # fmt: skip
        super().__init__()
        self.config: dict[str, Any] = {
            "embed_size": embed_size, "code_size": code_size, "action_size": action_size, "hidden_size": hidden_size,
            "groups": groups, "classes": classes, "units": units, "layers": layers, "explains": explains,
            "reward": reward, "termination": termination, "termination_weight": termination_weight,
            "free_nats": free_nats, "reward_range": list(reward_range), "losses": losses,
        }  # fmt: skip
        self.code_size, self.action_size, self.hidden_size = code_size, action_size, hidden_size
        self.explains, self.reward, self.termination = explains, reward, termination
        self.termination_weight, self.free_nats = termination_weight, free_nats
        self.rssm = RSSM(embed_size, action_size, hidden_size, groups, classes, units)
        width = self.rssm.latent.size + hidden_size
        self.reward_range = reward_range
        self.reward_head = RewardHead(width, units, layers, reward_range if losses == "mended" else None)
        self.end_head = mlp(width, units, layers, 1)
        self.code_head = mlp(width, units, 1, 2 * code_size)

    def start_from(self, vision: HRSSM) -> None:
        """Takes over the recurrent model and the heads that V was trained with: of the branch that V sees with."""
        self.rssm.load_state_dict(vision.target_rssm.state_dict())
        self.reward_head.load_state_dict(vision.reward_head.state_dict())
        self.end_head.load_state_dict(vision.end_head.state_dict())

    def code(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (..., Z) of the code expected at features (..., F)."""
        mu, logstd = self.code_head(feat).float().chunk(2, -1)
        return mu, logstd

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """KL + reward + termination + negative log-likelihood of codes, each in mean over steps.

        Args:
            batch: in arrival form (data/chunks.py): "embed" (B, T, E), "action", "reward", "terminated", "is_first".
            carry: unused, given back.
            generator: of the codes' and the latents' noise.
        """
        embed, is_first, rssm = batch["embed"].float(), batch["is_first"].float(), self.rssm
        rows, steps = is_first.shape
        noise = uniform(generator, rows, steps, rssm.latent.noise_size).to(embed.device)
        code = sample_code(embed, torch.randn(rows, steps, self.code_size, generator=generator).to(embed.device))
        states = rssm.unroll(embed, batch["action"], is_first, noise)
        total, kl = balanced_kl(rssm.latent, states.posterior, rssm.prior(states.h), self.free_nats)
        metrics = {"kl": kl}
        mu, logstd = self.code(states.feat if self.explains else states.feat.detach())
        nll = 0.5 * ((code - mu) * (-logstd).exp()) ** 2 + logstd + HALF_LOG_2PI
        metrics["nll"] = nll.mean()  # in nats per dimension, as the MDN-RNN's, but of codes that were seen
        total = total + nll.sum(-1).mean()
        if self.reward == "head":
            metrics["reward"] = self.reward_head.loss(states.feat, batch["reward"]).mean()
            total = total + metrics["reward"]
        if self.termination:
            logit = self.end_head(states.feat).float().squeeze(-1)
            metrics["termination"] = end_loss(logit, batch["terminated"].float(), self.termination_weight)
            total = total + metrics["termination"]
        return total, {name: value.detach() for name, value in metrics.items()}, carry


class RSSMWorldModel(nn.Module):
    """Any V with an RSSM (models/base.py says what the methods promise).

    The state is h, the memory of all before the present; z, which has seen that; and what z was drawn from.
    """

    starts: Tensor

    def __init__(self, vision: Vision, memory: RSSMMemory, starts: Tensor, precision: str) -> None:
        super().__init__()
        self.vision, self.memory, self.precision = vision, memory, precision
        self.register_buffer("starts", starts, persistent=False)
        latent = memory.rssm.latent
        self.action_size, self.code_size, self.noise_size = memory.action_size, vision.code_size, latent.noise_size
        self.rows_per_core = 256 if memory.hidden_size >= 512 else 512  # small nets need more to hide the calls
        self.rewardless = memory.reward == "none"
        self.feat_sizes = {
            "z": latent.size, "probs": latent.size, "h": memory.hidden_size
        }  # fmt: skip
        if not memory.explains:  # HRSSM's, as V's training left it
            self.feat_sizes["projection"] = memory.rssm.projection.out_features
        self.default_inputs = ("h",)  # z adds nothing that a linear map finds (docs/results.md)

    @in_its_precision
    def initial(self, batch_size: int) -> State:
        h, z = self.memory.rssm.initial(batch_size)
        return {"h": h.contiguous(), "z": z, "params": self.memory.rssm.prior(h)}

    @in_its_precision
    def encode(self, obs: Tensor) -> Tensor:
        return self.vision.encode(obs)

    @in_its_precision
    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        h, z, params = self.memory.rssm.observe(state["h"], state["z"], action, is_first, embed, noise)
        return {"h": h, "z": z, "params": params}

    @in_its_precision
    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        memory, rssm = self.memory, self.memory.rssm
        h = rssm.advance(state["z"], action, state["h"])
        params = rssm.prior(h)
        z = rssm.latent.sample(params, noise, tau)
        feat = torch.cat([z, h], -1)
        if memory.reward == "head":
            reward = memory.reward_head(feat).clamp(*memory.reward_range)
        else:
            reward = torch.full_like(h[:, 0], float(memory.reward == "alive"))
        logit = memory.end_head(feat).float().squeeze(-1) if memory.termination else torch.full_like(reward, -torch.inf)
        return Dreamed({"h": h, "z": z, "params": params}, reward, *end_of(logit, memory.termination_weight))

    @in_its_precision
    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return torch.cat([self._part(state, part) for part in parts], -1)

    @in_its_precision
    def decode(self, state: State) -> Tensor:
        return self.vision.decode(self.memory.code(torch.cat([state["z"], state["h"]], -1))[0])

    def _part(self, state: State, part: str) -> Tensor:
        if part == "probs":
            return self.memory.rssm.latent.center(state["params"])
        if part == "projection":  # trained in direction only
            return F.normalize(self.memory.rssm.projection(torch.cat([state["z"], state["h"]], -1)).float(), dim=-1)
        return state[part]
