"""Limits: matrix products alone, as many as a computation needs, at the precision that is fastest here."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from worldmodels.core.device import CPU, product_dtype

SIDE = 1024


def fastest() -> torch.dtype:
    """bf16 where the processor multiplies it in hardware, else fp32."""
    return product_dtype(CPU, "auto")


def operations(computation: Callable[[], Any]) -> int:
    """Floating-point operations in the products and convolutions of `computation`, backward included."""
    with FlopCounterMode(display=False) as counter:
        computation()
    return counter.get_total_flops()


def at_peak(flops: float) -> Callable[[], None]:
    """As many operations as square products of 1024, which reach the processor's peak."""
    a, b = (torch.randn(SIDE, SIDE).to(fastest()) for _ in range(2))
    count = max(1, round(flops / (2 * SIDE**3)))

    def work() -> None:
        for _ in range(count):
            a @ b

    return work


def chain(*shapes: tuple[int, int, int], times: int = 1) -> Callable[[], None]:
    """Products of (n, k) by (k, m), one after another, `times` over."""
    pairs = [(torch.randn(n, k).to(fastest()), torch.randn(k, m).to(fastest())) for n, k, m in shapes]

    def work() -> None:
        for _ in range(times):
            for a, b in pairs:
                a @ b

    return work
