"""The classic pairing: a V whose codes are sampled and an M that expects the next code, as one WorldModel."""

import torch
from torch import Tensor, nn

from worldmodels.models.base import Dreamed, State, Vision, end_of, in_its_precision, normal, sample_code
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.mixture import sample


class ClassicWorldModel(nn.Module):
    """VAE + MDN-RNN (models/base.py says what the methods promise).

    The state is z, what is seen; h and c, the LSTM's memory of everything before it; and first, whether this is an
    episode's first step. Memory at time t has not seen z[t]: the controller gets [z[t], h[t]], then M is advanced.
    """

    starts: Tensor

    def __init__(self, vision: Vision, memory: MDNRNN, starts: Tensor, precision: str) -> None:
        super().__init__()
        self.vision, self.memory, self.precision = vision, memory, precision
        self.register_buffer("starts", starts, persistent=False)
        self.action_size, self.code_size = memory.action_size, memory.code_size
        self.noise_size = 2 * memory.code_size
        self.rows_per_core = 256
        self.rewardless = memory.reward == "none"
        self.default_inputs = ("z", "c", "h") if memory.restart_input else ("z", "h")  # as the paper's two models
        self.feat_sizes = {"z": memory.code_size, "h": memory.hidden_size, "c": memory.hidden_size}

    def initial(self, batch_size: int) -> State:
        device = self.memory.cell.weight.device
        zeros = {name: torch.zeros(batch_size, size, device=device) for name, size in self.feat_sizes.items()}
        return zeros | {"first": torch.zeros(batch_size, 1, device=device)}

    @in_its_precision
    def encode(self, obs: Tensor) -> Tensor:
        return self.vision.encode(obs)

    @in_its_precision
    def observe(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, noise: Tensor) -> State:
        h, c = self.memory.step(state["z"], action, state["first"], state["h"], state["c"])
        z = sample_code(embed, normal(noise[:, : self.memory.code_size]))
        return {"z": z, "h": h * (1 - is_first), "c": c * (1 - is_first), "first": is_first}

    @in_its_precision
    def imagine(self, state: State, action: Tensor, noise: Tensor, tau: float = 1.0) -> Dreamed:
        memory = self.memory
        h, c = memory.step(state["z"], action, state["first"], state["h"], state["c"])
        expected = memory.predict(h)
        z = sample(expected.code, noise, tau, memory.mixtures)
        if expected.reward is None:
            reward = torch.full_like(z[:, 0], float(memory.reward == "alive"))
        else:
            reward = expected.reward * memory.reward_std + memory.reward_mean
        logit = torch.full_like(reward, -torch.inf) if expected.end is None else expected.end
        end, terminated = end_of(logit, memory.termination_weight)
        return Dreamed({"z": z, "h": h, "c": c, "first": torch.zeros_like(state["first"])}, reward, end, terminated)

    def features(self, state: State, parts: tuple[str, ...]) -> Tensor:
        return torch.cat([state[part] for part in parts], -1)

    @in_its_precision
    def decode(self, state: State) -> Tensor:
        return self.vision.decode(state["z"])
