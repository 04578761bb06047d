"""How networks that learn in dreams go down a gradient, and what of that is kept in files."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worldmodels.core import checkpoint, schema
from worldmodels.core.errors import UserError
from worldmodels.training.train import load_moments

EPS = 1e-5  # Adam's
MOMENTS = schema.fields(state=schema.named(schema.weights, int), param_groups=schema.each(schema.anything))
"""What the state of an optimizer is."""


def optimizer_of(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam, for those of its numbers that are trained."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, learning_rate, eps=EPS)


def descend(optimizer: torch.optim.Adam, loss: Tensor, max_norm: float, told: str) -> None:
    """Moves an optimizer's own weights down the gradient of `loss`, and no others.

    Args:
        optimizer: of the weights.
        loss: ().
        max_norm: that the gradient is scaled down to.
        told: whose gradient it is, and when: "actor at update 3".

    Raises:
        UserError: if the gradient is not finite.
    """
    parameters = optimizer.param_groups[0]["params"]
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    if not math.isfinite(float(norm)):
        name, _, when = told.partition(" ")
        rate = optimizer.param_groups[0]["lr"]
        raise UserError(
            f"the gradient of the {name} is not finite {when}; try --fresh with a --learning-rate below {rate:g} (the "
            "last checkpoint is kept)"
        )
    optimizer.step()


def restore(
    module: nn.Module, optimizer: torch.optim.Adam, weights: dict[str, Any], moments: dict[str, Any], source: Path
) -> None:
    """Puts a network and its optimizer where these were taken.

    Raises:
        UserError: naming the file `source`, if they were of another network, or moments are missing.
    """
    checkpoint.load_weights(module, weights, source)
    if len(moments["state"]) != len(optimizer.param_groups[0]["params"]):  # each was moved at every update
        raise UserError(f"{source} lacks moments of an optimizer; start anew with --fresh")
    load_moments(optimizer, moments["state"], source)
