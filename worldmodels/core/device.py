"""Where networks compute, and in which precision."""

import functools
import re
from typing import Any

import torch

from worldmodels.core import distributed
from worldmodels.core.errors import UserError, nearest

CPU = torch.device("cpu")


def prepare_device(name: str) -> torch.device:
    """The device that --device names, made ready for this process; auto is cuda where there is one.

    To make it ready sets what torch keeps for the whole process: cuDNN is to give the same result each time, and in
    fp32 where that is asked for (its default is TF32); a GPU with a number becomes the current one. Of several
    processes that train together each gets a GPU of its own.

    Raises:
        UserError: if there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"--device {name} is unknown; {nearest(name, ['auto', 'cpu', 'cuda', 'cuda:0'])}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch finds no GPU here; give --device cpu")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    device = distributed.own_gpu(torch.device(name))
    if device.index is not None:
        count = torch.cuda.device_count()
        if device.index >= count:
            raise UserError(f"--device {name}: the last GPU here is cuda:{count - 1}; give that, or one before it")
        torch.cuda.set_device(device)  # some of torch's calls mean the current one
    return device


def resolved(precision: str, device: torch.device) -> str:
    """bf16 or fp32; "auto" is bf16 where the hardware is fast at it."""
    if precision != "auto":
        return precision
    on_gpu = device.type == "cuda"
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else _cpu_is_fast_at_bf16()
    return "bf16" if fast else "fp32"


def product_dtype(device: torch.device, precision: str) -> torch.dtype:
    """What matrix products are computed in."""
    return torch.bfloat16 if resolved(precision, device) == "bf16" else torch.float32


def autocast(device: torch.device, precision: str) -> Any:
    """A context in which matrix products are of that dtype, whatever goes in."""
    lower = product_dtype(device, precision) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=lower)


@functools.cache
def _cpu_is_fast_at_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported())
