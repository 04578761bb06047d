"""Several processes that train one model, started by torchrun; without it there is one, and nothing here does anything.

All processes read the same global batches and each keeps its own rows; gradients are averaged by torch's
DistributedDataParallel, so that weights stay the same everywhere. The first process alone writes and prints.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from worldmodels.core.errors import UserError


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the first process, which writes, prints and evaluates."""
    return rank() == 0


def threads(workers: int) -> int:
    """How many of `workers` cores are this process's: those of one machine share them."""
    return max(1, workers // (int(os.environ["LOCAL_WORLD_SIZE"]) if world_size() > 1 else 1))


def own_gpu(device: torch.device) -> torch.device:
    """Of several processes on "cuda" each has a GPU of its own.

    Raises:
        UserError: if there are fewer GPUs than processes, or one of them was asked for by number.
    """
    if device.type != "cuda" or world_size() == 1:
        return device
    if device.index is not None:
        raise UserError(f"--device {device} is one GPU, and torchrun's processes take one each; give --device cuda")
    there = torch.cuda.device_count()
    if int(os.environ["LOCAL_WORLD_SIZE"]) > there:
        raise UserError(f"torchrun --nproc_per_node asks for more processes than there are GPUs here; give {there}")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def barrier() -> None:
    """Waits until all processes are here."""
    if world_size() > 1:
        distributed.all_reduce(torch.zeros(1))  # on the CPU, whose backend waits without a GPU's


def share(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This process's rows of a global batch (B, ...): an equal, successive block for each; what is left over is left.

    Raises:
        UserError: if there are fewer rows than processes.
    """
    parts = world_size()
    shares = {}
    for name, rows in batch.items():
        if len(rows) < parts:
            raise UserError(f"{parts} processes cannot share {len(rows)} rows; give a smaller --nproc_per_node")
        each = len(rows) // parts
        shares[name] = rows[rank() * each : (rank() + 1) * each]
    return shares


def gather(shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `share`: the rows of all processes, for all processes."""
    if world_size() == 1:
        return dict(shares)
    whole = {}
    for name, rows in shares.items():
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        distributed.all_gather(parts, rows.contiguous())
        whole[name] = torch.cat(parts)
    return whole


def mean(values: Mapping[str, float]) -> dict[str, float]:
    """Each number in mean over the processes."""
    if world_size() == 1:
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    distributed.all_reduce(total)
    return dict(zip(values, (total / world_size()).tolist(), strict=True))


def synchronised(module: Any) -> Callable[..., Any]:
    """`module.loss`, whose gradients, once computed, are the mean over the processes.

    Buffers (running statistics) are the first process's before every call.
    """
    if world_size() == 1:
        loss: Callable[..., Any] = module.loss
        return loss
    # the graph is the same in every step, and may leave out parameters: heads that are not asked for
    return nn.parallel.DistributedDataParallel(_Loss(module), static_graph=True)


def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Overwrites `tensors` by those of the first process."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


class _Loss(nn.Module):
    """A module whose `forward`, the only method that DistributedDataParallel looks after, is its loss."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: Any) -> Any:
        return self.module.loss(*arguments)  # type: ignore[operator]
