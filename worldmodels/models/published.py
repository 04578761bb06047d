"""The weights that the authors of World Models published, as V and M of ours (CLASSIC 3): order, scale and layout."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodels.models.base import State
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.settings.environments import Published
from worldmodels.settings.models import MDNRNNSettings, VAESettings

SCALE = 10_000  # weights are whole numbers of ten-thousandths
MIXTURES = 5
FORGET = 1.0  # added to the forget gate's bias when their cell runs, not in their file
Arrays = list[np.ndarray]
"""What a file holds, in its order: float64."""


class PedalMDNRNN(MDNRNN):
    """An MDN-RNN that learnt CarRacing's actions as the game takes them: gas and brake from 0 to 1."""

    def step(self, z: Tensor, action: Tensor, first: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """See MDNRNN; `action` (B, 3) is in [-1, 1], as everywhere."""
        return super().step(z, pedals(action), first, h, c)

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """See MDNRNN."""
        return super().loss(batch | {"action": pedals(batch["action"])}, carry, generator)


def pedals(action: Tensor) -> Tensor:
    """(..., 3) in [-1, 1], as our C and policies act, to what the game gets: steering, gas and brake (CLASSIC 1.5)."""
    steer, gas, brake = action.unbind(-1)
    return torch.stack([steer, (gas + 1) / 2, brake.clamp_min(0)], -1)


def vision_shapes(code_size: int) -> list[tuple[int, ...]]:
    """Of the arrays of V, in their order: convolutions, mean, log variance, and all the way back."""
    layers: list[tuple[int, ...]] = [
        *((4, 4, channels, 2 * channels if channels > 3 else 32) for channels in (3, 32, 64, 128)),
        (1024, code_size),
        (1024, code_size),
        (code_size, 1024),
        *((5, 5, 128, 1024), (5, 5, 64, 128), (6, 6, 32, 64), (6, 6, 3, 32)),  # transposed: what comes out is third
    ]
    outputs = [shape[2 if at > 6 else -1] for at, shape in enumerate(layers)]
    return [shape for layer, output in zip(layers, outputs, strict=True) for shape in (layer, (output,))]


def memory_shapes(game: Published) -> list[tuple[int, ...]]:
    """Of the arrays of M: the cell's kernel and bias, the output's."""
    inputs = game.code_size + game.action_size + game.restart
    outputs = game.restart + game.code_size * 3 * MIXTURES
    gates = 4 * game.hidden_size
    return [(inputs + game.hidden_size, gates), (gates,), (game.hidden_size, outputs), (outputs,)]


def vision(arrays: Arrays) -> VAE:
    """V of arrays of `vision_shapes`, in their order."""
    code_size = arrays[9].size
    module = VAE(VAESettings(code_size=code_size))
    down = [part for part in module.encoder.modules() if isinstance(part, nn.Conv2d)]
    up = [part for part in module.decoder.modules() if isinstance(part, nn.ConvTranspose2d)]
    first = next(part for part in module.decoder.modules() if isinstance(part, nn.Linear))
    layers: list[nn.Linear | nn.Conv2d | nn.ConvTranspose2d] = [*down, module.mu, module.logvar, first, *up]
    for layer, kernel, bias in zip(layers, arrays[::2], arrays[1::2], strict=True):
        if isinstance(layer, nn.Linear):
            weight = kernel.T if layer is first else _channels_first(kernel)
        else:  # height, width, two kinds of channels: ours are the other way about, and of both kinds so
            weight = kernel.transpose(3, 2, 0, 1)
        assert layer.bias is not None  # as nothing of V's is
        _fill(layer.weight, weight)
        _fill(layer.bias, bias)
    return module.eval()


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    """A head's kernel (1024, Z), whose rows go by height, width and channel, as a weight (Z, 1024) of ours."""
    turned: np.ndarray = kernel.reshape(2, 2, 256, -1).transpose(3, 2, 0, 1).reshape(-1, 1024)
    return turned


def memory(arrays: Arrays, game: Published) -> MDNRNN:
    """M of arrays of `memory_shapes`, in their order."""
    restart = game.restart
    kernel, bias, out_weight, out_bias = arrays
    settings: dict[str, Any] = {"hidden_size": game.hidden_size, "mixtures": MIXTURES, "restart_input": restart}
    settings |= {"reward": "alive", "termination": True} if restart else {"reward": "none", "termination": False}
    kind = MDNRNN if restart else PedalMDNRNN
    module = kind(MDNRNNSettings(**settings), game.code_size, game.action_size)
    _fill(module.cell.weight, _gates(kernel).T)
    _fill(module.cell.bias, _gates(bias[None])[0])
    module.cell.bias.data[module.hidden_size : 2 * module.hidden_size] += FORGET
    _fill(module.head.weight, _outputs(out_weight, game).T)
    _fill(module.head.bias, _outputs(out_bias[None], game)[0])
    return module.eval()


def _gates(kernel: np.ndarray) -> np.ndarray:
    """Columns by gate: theirs are input, cell, forget, output; ours input, forget, cell, output."""
    i, j, f, o = np.split(kernel, 4, axis=1)
    return np.concatenate([i, f, j, o], 1)


def _outputs(weight: np.ndarray, game: Published) -> np.ndarray:
    """Columns of the output. Theirs: the end first, then by dimension of the code, kind of number, component. Ours:
    kind, component, dimension, and the end last."""
    heads = int(game.restart)
    mixture = weight[:, heads:].reshape(-1, game.code_size, 3, MIXTURES).transpose(0, 2, 3, 1)
    return np.concatenate([mixture.reshape(len(weight), -1), weight[:, :heads]], 1)


def _fill(parameter: Tensor, values: np.ndarray) -> None:
    if parameter.shape != values.shape:
        raise ValueError(f"weights {values.shape} do not fit {tuple(parameter.shape)}")
    parameter.data = _tensor(values)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32, order="C"))
