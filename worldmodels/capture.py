"""A step on a GPU as one CUDA graph: its many small kernels are launched by one call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldmodels.models.base import State

Step = Callable[..., Any]
"""(state, *tensors) -> (state, *tensors); asks the host nothing, and draws no randomness of its own."""
WARM = 3  # runs before it is recorded, in which libraries set themselves up


class Recording(NamedTuple):
    """A graph, the tensors that it reads, and those that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    results: Any


class Captured:
    """Computes what `step` does. It is recorded once for each number of rows, and replayed from then on.

    What it returns are the recording's own tensors: good until the next call, and free of charge as its arguments.

    Args:
        step: on CUDA tensors, whose shapes depend on the number of rows only.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._recorded: dict[int, Recording] = {}

    def __call__(self, state: State, *others: Tensor) -> Any:
        given = [*state.values(), *others]
        if len(given[0]) not in self._recorded:
            self._recorded[len(given[0])] = self._record(state, others)
        graph, inputs, results = self._recorded[len(given[0])]
        for mine, theirs in zip(inputs, given, strict=True):
            if mine is not theirs:
                mine.copy_(theirs)
        graph.replay()
        return results

    def _record(self, state: State, others: tuple[Tensor, ...]) -> Recording:
        own_state, own = {name: value.clone() for name, value in state.items()}, [value.clone() for value in others]
        device = next(iter(state.values())).device  # which need not be the current one
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                self._step(own_state, *own)
        torch.cuda.current_stream(device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=aside):
            results = self._step(own_state, *own)
        return Recording(graph, [*own_state.values(), *own], results)
