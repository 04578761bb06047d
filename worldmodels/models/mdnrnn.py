"""M: the mixture-density recurrent network of World Models (CLASSIC 1.4, 2.5, 2.7; paper, appendix A.2), and the
pairing of a V with it as one WorldModel."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.core.errors import UserError
from worldmodels.core.seeding import uniform
from worldmodels.data.sequences import Sequences
from worldmodels.models.base import Dreamed, Experience, Memory, Pairing, State, Vision, in_its_precision
from worldmodels.models.codes import normal, sample_code
from worldmodels.models.fast import lstm
from worldmodels.models.heads import end_loss, end_of
from worldmodels.models.mixture import nll, sample
from worldmodels.models.worlds import MEMBER, WORLD, by_member, drawn_worlds, shown, taught, world_of
from worldmodels.settings.models import MDNRNNSettings

LARGEST_CODE = 1024  # that it is asked to model


class Prediction(NamedTuple):
    """What M expects of the next step."""

    code: Tensor  # (..., 3KZ), a mixture (mixture.py)
    end: Tensor | None  # (...), logit of termination
    reward: Tensor | None  # (...), in units of the data's standard deviation, about its mean


class Given(NamedTuple):
    """What B sequences of T steps are unrolled by, beside their codes."""

    action: Tensor  # (B, T, A)
    first: Tensor  # (B, T), 1 where an episode begins
    h: Tensor  # (B, H), memory before
    c: Tensor  # (B, H)
    world: Tensor | None = None  # (B, Z + H), what z and h are multiplied by where a part of them is hidden
    member: Tensor | None = None  # (B, 1), which member each sequence teaches


class MDNRNN(Memory[MDNRNNSettings]):
    """LSTM over (z, action[, restart]) whose output is a mixture of Gaussians for every dimension of the next code.

    422,368 numbers for CarRacing (code 32, action 3, hidden 256, no heads) and 1,678,785 for Doom (code 64, action 1,
    hidden 512, restart input, termination head).

    Args:
        settings: its own.
        code_size: Z.
        action_size: A.
    """

    reward_mean: Tensor
    reward_std: Tensor

    def __init__(self, settings: MDNRNNSettings, code_size: int, action_size: int) -> None:
        super().__init__(settings)
        self.code_size = code_size
        self.action_size = action_size
        self.hidden_size = hidden_size = settings.hidden_size
        self.input_size = code_size + action_size + settings.restart_input
        flags = settings.termination + (settings.reward == "head")
        self.cell = nn.Linear(self.input_size + hidden_size, 4 * hidden_size)  # all gates; one bias, as TensorFlow's
        width = 3 * settings.mixtures * code_size + flags
        self.head = nn.Linear(hidden_size, width)
        self.other_heads = nn.ModuleList(nn.Linear(hidden_size, width) for _ in range(settings.members - 1))
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_std", torch.ones(()))
        nn.init.xavier_uniform_(self.cell.weight)
        nn.init.zeros_(self.cell.bias)
        nn.init.ones_(self.cell.bias.data[hidden_size : 2 * hidden_size])  # forget gate

    @classmethod
    def build(cls, settings: MDNRNNSettings, data: Experience, vision: Vision[Any]) -> Self:
        """See Memory."""
        if vision.code_size > LARGEST_CODE:
            raise UserError(
                f"V has codes of {vision.code_size} numbers, too many for --memory mdnrnn; train V with a --code-size, "
                "or give --memory rssm"
            )
        memory = cls(settings, vision.code_size, data.action_size)
        mean, std = data.reward_moments()
        memory.reward_mean.fill_(mean)
        memory.reward_std.fill_(max(std, 1e-3))  # a constant reward has no scale
        return memory

    @torch.no_grad()
    def take_over(self, other: Self) -> None:
        """See Trainable. Rewards are expected as before, in units of the data that there is now."""
        mean, std = self.reward_mean.clone(), self.reward_std.clone()
        super().take_over(other)
        if self.settings.reward == "head":
            for head in self.heads:
                head.weight[-1] *= other.reward_std / std
                head.bias[-1] = (head.bias[-1] * other.reward_std + other.reward_mean - mean) / std
        self.reward_mean.copy_(mean)
        self.reward_std.copy_(std)

    @property
    def rows_per_share(self) -> int:
        """See Trainable. A small memory's products are done before another process has heard of them."""
        return 16 if self.hidden_size >= 256 else 0

    @property
    def wants(self) -> Sequences:
        """See Trainable."""
        return Sequences(self.settings.sequence_length)

    def paired(self, vision: Vision[Any], starts: Tensor, precision: str) -> "ClassicWorldModel":
        """See Memory."""
        return ClassicWorldModel(vision, self, starts, precision)

    def step(self, z: Tensor, action: Tensor, first: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Advances memory by a code (B, Z) and the action (B, A) it led to; `first` (B, 1) is the restart flag."""
        inputs = [z, action, first, h] if self.settings.restart_input else [z, action, h]
        gates = F.linear(torch.cat(inputs, -1), self.cell.weight).float()
        gates.add_(self.cell.bias)  # as an argument of F.linear, the bias would be written out for every row
        return lstm.step_(gates, c)

    @property
    def heads(self) -> list[nn.Linear]:
        """One for each member."""
        return [self.head, *cast(Iterable[nn.Linear], self.other_heads)]

    def predict(self, h: Tensor, member: Tensor | None = None) -> Prediction:
        """What is expected after memory `h` (..., B, H), by each row's `member` (B, 1); without, by the first."""
        count = 3 * self.settings.mixtures * self.code_size
        if torch.is_grad_enabled():  # whose backward would have to put the parts of one product together
            parts = [[_part(head, rows) for head in self.heads] for rows in (slice(count), slice(count, None))]
            code, rest = (by_member(experts, h, member) for experts in parts)
        else:
            code, rest = by_member(self.heads, h, member).tensor_split([count], -1)
        rest = rest.float()
        end = rest[..., 0] if self.settings.termination else None
        reward = rest[..., -1] if self.settings.reward == "head" else None
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
        given = Given(batch["action"], batch["is_first"].float(), h, c)
        if self.training and self.settings.dropout:
            size = self.code_size + self.hidden_size
            given = given._replace(world=drawn_worlds(self.settings.dropout, rows, size, generator, z.device))
        given = given._replace(member=taught(self.settings.members, rows, self.training, generator, z.device))
        if self.training and self.settings.self_fed:
            z = self._partly_own(z, given, generator)
        hs, h, c = self._unroll(z, given)
        code, end, reward = self.predict(hs, given.member)
        ended = batch["terminated"].float().T
        error = nll(code, target.transpose(0, 1), self.settings.mixtures)
        total = (error * (1 - ended)).sum() / (1 - ended).sum().clamp_min(1)
        metrics = {"nll": total}
        if end is not None:
            metrics["termination"] = end_loss(end, ended, self.settings.termination_weight)
            total = total + metrics["termination"]
        if reward is not None:
            metrics["reward"] = F.mse_loss(reward, (batch["reward"].T - self.reward_mean) / self.reward_std)
            total = total + metrics["reward"]
        carry = {"h": h.detach(), "c": c.detach()}
        return total, {name: value.detach() for name, value in metrics.items()}, carry

    @torch.no_grad()
    def _partly_own(self, z: Tensor, given: Given, generator: torch.Generator) -> Tensor:
        """Codes (B, T, Z), a share of which is not what came but what M expected there.

        All are drawn at once (Duckworth et al. 2019, Parallel Scheduled Sampling): in the first pass from a memory of
        real codes only, in each later one from that of the codes that the pass before it gave. An episode's first code
        is always the real one, as it is in dreams.
        """
        rows, steps, size = z.shape
        own = torch.rand(rows, steps, 1, generator=generator).to(z.device) < self.settings.self_fed
        own &= given.first.unsqueeze(-1) == 0
        own[:, 0] = False  # what was expected there, the batch before knows
        fed = z
        for _ in range(self.settings.passes):
            hs, _, _ = self._unroll(fed, given)
            noise = uniform(generator, steps * rows, 2 * size).to(z.device)
            code = self.predict(hs, given.member).code
            expected = sample(code.flatten(0, 1), noise, 1.0, self.settings.mixtures)
            following = expected.unflatten(0, (steps, rows)).transpose(0, 1)[:, :-1]
            fed = torch.where(own, torch.cat([z[:, :1], following.to(z.dtype)], 1), z)
        return fed

    def _unroll(self, z: Tensor, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """Memory after every step (T, B, H), and the last h and c; state is zeroed where an episode begins."""
        of_h = None
        if given.world is not None:
            of_z, of_h = given.world.split([self.code_size, self.hidden_size], 1)
            z = z * of_z.unsqueeze(1)
        first = given.first
        inputs = [z, given.action, first.unsqueeze(-1)] if self.settings.restart_input else [z, given.action]
        inputs.append(torch.ones_like(z[..., :1]))  # times the bias, whose gradient then is part of the product's
        weight_in, weight_h = self.cell.weight.split([self.input_size, self.hidden_size], 1)
        weight_in = torch.cat([weight_in, self.cell.bias.unsqueeze(1)], 1)
        gates = F.linear(torch.cat(inputs, -1).transpose(0, 1).contiguous(), weight_in)  # (T, B, 4H)
        with torch.autocast(z.device.type, enabled=False):  # the LSTM casts its own products
            return lstm.sequence(gates, weight_h, (1 - first).T.unsqueeze(-1), given.h, given.c, of_h)


def _part(head: nn.Linear, rows: slice) -> Callable[[Tensor], Tensor]:
    """Some of what a head says, as a product of its own."""
    return lambda h: F.linear(h, head.weight[rows], head.bias[rows])


class ClassicWorldModel(Pairing):
    """Any V with an MDN-RNN (models/base.py says what the methods promise).

    The state is z, what is seen; h and c, the LSTM's memory of everything before it; and first, whether this is an
    episode's first step. Memory at time t has not seen z[t]: the controller gets [z[t], h[t]], then M is advanced.
    """

    memory: MDNRNN

    def __init__(self, vision: Vision[Any], memory: MDNRNN, starts: Tensor, precision: str) -> None:
        super().__init__(vision, memory, starts, precision)
        self.noise_size = 2 * memory.code_size
        self.worlds = memory.code_size + memory.hidden_size if memory.settings.dropout else 0
        self.members = memory.settings.members
        self.rows_per_core = 256
        # as the paper's two models
        self.default_inputs = ("z", "c", "h") if memory.settings.restart_input else ("z", "h")
        self.feat_sizes = {"z": memory.code_size, "h": memory.hidden_size, "c": memory.hidden_size}

    def initial(self, batch_size: int) -> State:
        device = self.memory.cell.weight.device
        zeros = {name: torch.zeros(batch_size, size, device=device) for name, size in self.feat_sizes.items()}
        return zeros | {"first": torch.zeros(batch_size, 1, device=device)}

    @in_its_precision
    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        h, c = self.memory.step(state["z"], action, state["first"], state["h"], state["c"])
        z = sample_code(embed, normal(noise[:, : self.memory.code_size]))
        return {"z": z, "h": h * (1 - is_first), "c": c * (1 - is_first), "first": is_first}

    @in_its_precision
    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        settings = self.memory.settings
        h, c, code, reward, logit = self.expected(state, action)
        z = sample(code, noise, tau, settings.mixtures)
        end, terminated = end_of(logit, settings.termination_weight)
        after = {"z": z, "h": h, "c": c, "first": torch.zeros_like(state["first"])}
        return Dreamed(after | world_of(state), reward, end, terminated)

    def expected(self, state: State, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All of `imagine` that is no matter of luck: h and c, the mixture (B, 3KZ) that the code is drawn from, reward
        (B,), and the end's logit (B,)."""
        memory = self.memory
        settings = memory.settings
        z, before = shown(state["z"], state["h"], state.get(WORLD))
        h, c = memory.step(z, action, state["first"], before, state["c"])
        expected = memory.predict(h, state.get(MEMBER))
        if expected.reward is None:
            reward = torch.full_like(h[:, 0], float(settings.reward == "alive"))
        else:
            reward = expected.reward * memory.reward_std + memory.reward_mean
        logit = torch.full_like(reward, -torch.inf) if expected.end is None else expected.end
        return h, c, expected.code, reward, logit

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return torch.cat([state[part] for part in parts], -1)

    @in_its_precision
    def decode(self, state: State) -> Tensor:
        return self.vision.decode(state["z"])
