"""M: the mixture-density recurrent network of World Models (CLASSIC 1.4, 2.5, 2.7; paper, appendix A.2)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.models.base import State, end_loss, sample_code
from worldmodels.models.fast import lstm
from worldmodels.models.mixture import nll


class Prediction(NamedTuple):
    """What M expects of the next step."""

    code: Tensor  # (..., 3KZ), a mixture (mixture.py)
    end: Tensor | None  # (...), logit of termination
    reward: Tensor | None  # (...), in units of the data's standard deviation, about its mean


class MDNRNN(nn.Module):
    """LSTM over (z, action[, restart]) whose output is a mixture of Gaussians for every dimension of the next code.

    422,368 numbers for CarRacing (code 32, action 3, hidden 256, no heads) and 1,678,785 for Doom (code 64, action 1,
    hidden 512, restart input, termination head).

    Args:
        code_size: Z.
        action_size: A.
        hidden_size: H.
        mixtures: K.
        restart_input: one more input, 1 at the first step of an episode.
        reward: "head" predicts it; "alive" is 1 per step; "none" is 0.
        termination: whether to predict the end of the episode.
        termination_weight: of last steps in that prediction's loss (the authors: 10).
    """

    family = "mdnrnn"
    reward_mean: Tensor
    reward_std: Tensor

    def __init__(
        self,
        code_size: int,
        action_size: int,
        hidden_size: int,
        mixtures: int = 5,
        restart_input: bool = False,
        reward: str = "head",
        termination: bool = True,
        termination_weight: float = 10.0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "code_size": code_size, "action_size": action_size, "hidden_size": hidden_size, "mixtures": mixtures,
            "restart_input": restart_input, "reward": reward, "termination": termination,
            "termination_weight": termination_weight,
        }  # fmt: skip
        self.code_size, self.action_size, self.hidden_size, self.mixtures = (
            code_size, action_size, hidden_size, mixtures
        )  # fmt: skip
        self.restart_input, self.reward, self.termination = restart_input, reward, termination
        self.termination_weight = termination_weight
        self.input_size = code_size + action_size + restart_input
        self.cell = nn.Linear(self.input_size + hidden_size, 4 * hidden_size)  # all gates; one bias, as TensorFlow's
        self.head = nn.Linear(hidden_size, 3 * mixtures * code_size + termination + (reward == "head"))
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_std", torch.ones(()))
        nn.init.xavier_uniform_(self.cell.weight)
        nn.init.zeros_(self.cell.bias)
        nn.init.ones_(self.cell.bias.data[hidden_size : 2 * hidden_size])  # forget gate

    def step(self, z: Tensor, action: Tensor, first: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Advances memory by a code (B, Z) and the action (B, A) it led to; `first` (B, 1) is the restart flag."""
        inputs = [z, action, first, h] if self.restart_input else [z, action, h]
        gates = F.linear(torch.cat(inputs, -1), self.cell.weight).float()
        return lstm.step(gates.add_(self.cell.bias), c)  # as an argument, the bias would be written out for every row

    def predict(self, h: Tensor) -> Prediction:
        """What is expected after memory `h` (..., H)."""
        count = 3 * self.mixtures * self.code_size
        if torch.is_grad_enabled():  # whose backward would have to put the parts of one product together
            (weight, others), (bias, other_bias) = (x.tensor_split([count]) for x in (self.head.weight, self.head.bias))
            code, rest = F.linear(h, weight, bias), F.linear(h, others, other_bias).float()
        else:
            out = self.head(h)
            code, rest = out[..., :count], out[..., count:].float()
        end = rest[..., 0] if self.termination else None
        reward = rest[..., -1] if self.reward == "head" else None
        return Prediction(code, end, reward)

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """Negative log-likelihood of the next codes in nats per dimension, plus the heads' losses.

        The codes are sampled anew for every batch. After the last step of an episode that terminated there is no
        next code to predict, so such steps count for the heads only.

        Args:
            batch: "embed" and "next_embed" (B, T, 2Z), "action" (B, T, A), "reward", "terminated", "is_first" (B, T).
            carry: "h" and "c" (B, H) after the batch before, or empty.
            generator: where the codes' noise comes from.
        """
        rows, steps = batch["reward"].shape
        noise = torch.randn(rows, steps + 1, self.code_size, generator=generator).to(batch["embed"].device)
        z = sample_code(batch["embed"].float(), noise[:, :-1])
        target = sample_code(batch["next_embed"].float(), noise[:, 1:])
        h = carry.get("h", z.new_zeros(rows, self.hidden_size))
        c = carry.get("c", z.new_zeros(rows, self.hidden_size))
        hs, h, c = self._unroll(z, batch["action"], batch["is_first"].float(), h, c)
        code, end, reward = self.predict(hs)
        ended = batch["terminated"].float().T
        error = nll(code, target.transpose(0, 1), self.mixtures)
        total = (error * (1 - ended)).sum() / (1 - ended).sum().clamp_min(1)
        metrics = {"nll": total}
        if end is not None:
            metrics["termination"] = end_loss(end, ended, self.termination_weight)
            total = total + metrics["termination"]
        if reward is not None:
            metrics["reward"] = F.mse_loss(reward, (batch["reward"].T - self.reward_mean) / self.reward_std)
            total = total + metrics["reward"]
        carry = {"h": h.detach(), "c": c.detach()}
        return total, {name: value.detach() for name, value in metrics.items()}, carry

    def _unroll(self, z: Tensor, action: Tensor, first: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Memory after every step (T, B, H), and the last h and c; state is zeroed where `first` (B, T) is 1."""
        inputs = [z, action, first.unsqueeze(-1)] if self.restart_input else [z, action]
        inputs.append(torch.ones_like(z[..., :1]))  # times the bias, whose gradient then is part of the product's
        weight_in, weight_h = self.cell.weight.split([self.input_size, self.hidden_size], 1)
        weight_in = torch.cat([weight_in, self.cell.bias.unsqueeze(1)], 1)
        gates = F.linear(torch.cat(inputs, -1).transpose(0, 1).contiguous(), weight_in)  # (T, B, 4H)
        with torch.autocast(z.device.type, enabled=False):  # the LSTM casts its own products
            return lstm.sequence(gates, weight_h, (1 - first).T.unsqueeze(-1), h, c)
