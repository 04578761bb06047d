"""A step on a GPU as one CUDA graph: its many small kernels are launched by one call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldmodels.models.base import State

Step = Callable[..., tuple[Any, ...]]
"""(state, *tensors) -> (state, *tensors) in that order; the last may be left out.

It asks the host for nothing and draws no random numbers.
"""
Record = Callable[[Callable[[], Any], torch.device], tuple[Any, Callable[[], None]]]
"""(a computation, its device) -> (the tensors that it fills, what fills them anew from the same inputs)."""
WARM = 3  # runs before it is recorded, in which libraries set themselves up


class Recording(NamedTuple):
    """The tensors that a recorded step reads, those that it fills, and what makes it do so."""

    state: State
    others: list[Tensor]
    results: Any
    replay: Callable[[], None]


def cuda_graph(compute: Callable[[], Any], device: torch.device) -> tuple[Any, Callable[[], None]]:
    """A Record."""
    aside = _aside(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            compute()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside):
        results = compute()
    return results, graph.replay


@functools.cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """One stream for all recordings: for each that multiplies matrices cuBLAS keeps memory."""
    return torch.cuda.Stream(device)  # of a device that need not be the current one


class Captured:
    """Computes what `step` does. It is recorded once for each number of rows, and replayed from then on.

    The next call overwrites what a call returned; who only hands that on to the next call need not copy it.

    Args:
        step: whose tensors' shapes depend on the number of rows only.
        record: how; tests replace it where there is no GPU.
    """

    def __init__(self, step: Step, record: Record = cuda_graph) -> None:
        self._step = step
        self._record = record
        self._recorded: dict[tuple[int, frozenset[str]], Recording] = {}

    def __call__(self, state: State, *others: Tensor) -> Any:
        key = (len(others[0]), frozenset(state))
        if key not in self._recorded:
            self._recorded[key] = self._begin(state, others)
        recording = self._recorded[key]
        pairs = [(recording.state[name], value) for name, value in state.items()]
        for mine, theirs in (*pairs, *zip(recording.others, others, strict=True)):
            if mine is not theirs:
                mine.copy_(theirs)
        recording.replay()
        return recording.results

    def _begin(self, state: State, others: tuple[Tensor, ...]) -> Recording:
        own_state = {name: value.clone() for name, value in state.items()}
        own = [value.clone() for value in others]
        places = {value.untyped_storage().data_ptr() for value in (*own_state.values(), *own)}

        def apart(value: Tensor, before: Tensor | None) -> Tensor:
            """Else an input handed on under another name would be read after it was overwritten."""
            if value is before or value.untyped_storage().data_ptr() not in places:
                return value
            return value.clone()

        def compute() -> Any:
            after, *rest = self._step(own_state, *own)
            after = {name: apart(value, own_state.get(name)) for name, value in after.items()}
            return after, *(apart(value, before) for value, before in zip(rest, own, strict=False))

        results, replay = self._record(compute, own[0].device)
        return Recording(own_state, own, results, replay)
