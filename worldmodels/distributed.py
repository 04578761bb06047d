"""Several processes that train one model, started by torchrun; without it there is one, and nothing here does anything.

All processes read the same global batches and each keeps its own rows; gradients are averaged by torch's
DistributedDataParallel, so that weights stay the same everywhere. The first process alone writes and prints.
"""

import functools
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from worldmodels.errors import UserError

PATIENCE = timedelta(days=1)  # the other processes may wait for hours while the first encodes; torchrun sees deaths
MISTAKES = "worldmodels/mistakes"  # counter in the store that all processes share


def single_process(main: Callable[[], None]) -> Callable[[], None]:
    """Makes `main` refuse to be one of several processes: it would do everything as often as there are.

    Raises:
        UserError: if torchrun started several.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        if _several():
            raise UserError(
                "torchrun is for stages 2 and 3; start this one with python: it uses all cores by --workers"
            )
        main()

    return wrapper


def several_processes(main: Callable[[], None]) -> Callable[[], None]:
    """Makes `main` join the other processes if torchrun started it, and a mistake be told by one of them only."""

    @functools.wraps(main)
    def wrapper() -> None:
        if not _several():
            main()
            return
        both = torch.cuda.is_available()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=PATIENCE)
        store = distributed.distributed_c10d._get_default_store()
        try:
            main()
            barrier()  # until the first one has encoded, for one alone cannot take the group down
        except (UserError, OSError):
            if store.add(MISTAKES, 1) > 1:
                _await_end()
            raise
        except RuntimeError:  # another process made a mistake and left: the line is cut
            if store.add(MISTAKES, 0) > 0:
                _await_end()
            raise
        except KeyboardInterrupt:  # which all of them are told of
            if not is_main():
                sys.exit(130)
            raise
        gc.collect()  # what lies in cycles would keep the group, whose threads must not outlive the interpreter
        distributed.destroy_process_group()

    return wrapper


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
    there, index = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if int(os.environ["LOCAL_WORLD_SIZE"]) > there:
        raise UserError(f"torchrun --nproc_per_node asks for more processes than there are GPUs here; give {there}")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def barrier() -> None:
    """Waits until all processes are here."""
    if world_size() > 1:
        distributed.all_reduce(torch.zeros(1))  # on the CPU, whose backend waits without a GPU's


def share(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This process's rows of a global batch (B, ...): an equal, successive block for each; what is left over is left.

    Raises:
        UserError: if there are fewer rows than processes.
    """
    parts, shares = world_size(), {}
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
        return module.loss
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


def _several() -> bool:
    """Whether torchrun started this process and others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "TORCHELASTIC_RUN_ID" in os.environ


def _await_end() -> None:
    """Waits for torchrun to end this process because another one failed, which must not be cut short in telling why."""
    time.sleep(30)
    sys.exit(1)
