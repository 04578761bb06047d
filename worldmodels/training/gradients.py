"""The gradient of a batch: computed here, or in shares by workers, each of whom takes some of its rows.

A step of an MDN-RNN is thousands of small computations, one after the other, so that torch's threads gain little; but
half of the rows take little more than half of the time.

Shares count by their rows. Where a loss is a mean over fewer (an MDN-RNN's, over steps that something follows), that is
not quite the mean over all.
"""

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodels.core import distributed, seeding
from worldmodels.core.allocator import keep_freed_memory
from worldmodels.core.device import autocast
from worldmodels.data.source import Batch
from worldmodels.models.base import State, Trainable
from worldmodels.settings.stages import TrainConfig
from worldmodels.workers.local import Workers


class Found(NamedTuple):
    """What a batch says, beside its gradient."""

    loss: float
    metrics: Mapping[str, torch.Tensor | float]
    carry: State  # for the next batch


class Share(NamedTuple):
    """A worker's task: some rows of a batch."""

    model: type[Trainable[Any]]
    settings: type  # of the module
    config: str  # what it is made by, as JSON
    weights: dict[str, np.ndarray]  # float32
    batch: Batch  # (rows, ...) each
    carry: State  # (rows, ...) each
    precision: str
    luck: tuple[Any, ...]  # the seed, and the names of a stream


class Gradients:
    """Leaves the gradient of a batch in a module's parameters.

    Args:
        module: that is being trained.
        config: its stage's settings.
        device: where to compute what is computed here.
        workers: who compute shares. None: nobody.
    """

    def __init__(
        self,
        module: Trainable[Any],
        config: TrainConfig,
        device: torch.device,
        workers: Workers | None = None,
    ) -> None:
        self._module = module
        self._config = config
        self._device = device
        self._workers = workers
        self._loss = distributed.synchronised(module)

    def of(self, batch: Batch, carry: State, *stream: Any) -> Found:
        """Computes it.

        Args:
            batch: this process's rows.
            carry: what the batch before left.
            stream: names the stream that noise comes from. Every share but the first has one of its own.

        Raises:
            UserError, WorkerError: as a worker did, or if it died three times at the same share.
        """
        self._module.zero_grad(set_to_none=True)
        if self._workers:
            parts = shares(self._module, _rows(batch), self._config.workers)
            if parts > 1:
                return self._in_shares(self._workers, batch, carry, stream, parts)
        return self._here(batch, carry, stream)

    def _here(self, batch: Batch, carry: State, stream: tuple[Any, ...]) -> Found:
        generator = seeding.generator(*self._luck(stream, distributed.rank()))
        with autocast(self._device, self._config.precision):
            loss, metrics, carry = self._loss(batch, carry, generator)
        loss.backward()
        value = distributed.mean({"loss": float(loss.detach())})["loss"]
        return Found(value, metrics, carry)

    def _in_shares(
        self,
        workers: Workers,
        batch: Batch,
        carry: State,
        stream: tuple[Any, ...],
        parts: int,
    ) -> Found:
        rows = _rows(batch)
        bounds = [rows * part // parts for part in range(parts + 1)]
        tasks = [
            self._share(batch, carry, slice(bounds[part], bounds[part + 1]), self._luck(stream, part))
            for part in range(parts)
        ]
        weights = [_rows(task.batch) / rows for task in tasks]
        answers = workers.map(gradient_of_share, tasks)
        for name, parameter in self._module.named_parameters():
            gradients = [gradient.get(name) for _, gradient in answers]
            if gradients[0] is not None:  # else the loss does not ask for it
                terms = [torch.from_numpy(one).mul_(weight) for one, weight in zip(gradients, weights, strict=True)]
                parameter.grad = functools.reduce(torch.Tensor.add_, terms)
        return _together([found for found, _ in answers], weights)

    def _share(self, batch: Batch, carry: State, rows: slice, luck: tuple[Any, ...]) -> Share:
        module = self._module
        return Share(
            model=type(module),
            settings=type(module.settings),
            config=json.dumps(module.config),
            weights={name: value.numpy() for name, value in module.state_dict().items()},
            batch={name: value[rows].clone() for name, value in batch.items()},  # a part of it would take all along
            carry={name: value[rows].clone() for name, value in carry.items()},
            precision=self._config.precision,
            luck=luck,
        )

    def _luck(self, stream: tuple[Any, ...], part: int) -> tuple[Any, ...]:
        """The seed and the names of a stream, for one part of a batch."""
        return (self._config.seed, *stream, *([part] if part else []))


def shares(module: Trainable[Any], rows: int, workers: int) -> int:
    """Into how many shares a batch of so many rows is divided."""
    return max(1, min(workers, rows // module.rows_per_share)) if module.rows_per_share else 1


@contextlib.contextmanager
def helpers(module: Trainable[Any], config: TrainConfig, device: torch.device) -> Iterator[Workers | None]:
    """Workers for its shares, if there are to be any: not on a GPU, nor where several processes train already."""
    alone = distributed.world_size() == 1 and device.type == "cpu"
    if not alone or shares(module, config.batch_size, config.workers) == 1:
        yield None
        return
    with Workers(config.workers) as workers:
        yield workers


def gradient_of_share(task: Share) -> tuple[Found, dict[str, np.ndarray]]:
    """A worker's task: the gradient of some rows, by the parameters' names."""
    module = _module(task.model, task.settings, task.config)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in task.weights.items()})
    module.zero_grad(set_to_none=True)
    with autocast(torch.device("cpu"), task.precision):
        loss, metrics, carry = module.loss(task.batch, task.carry, seeding.generator(*task.luck))
    loss.backward()
    gradients = {name: one.grad.numpy() for name, one in module.named_parameters() if one.grad is not None}
    return Found(float(loss.detach()), _numbers(metrics), carry), gradients


@functools.lru_cache(maxsize=1)
def _module(model: type[Trainable[Any]], settings: type, config: str) -> Trainable[Any]:
    """The same one in each step, whose weights are overwritten."""
    keep_freed_memory()
    return model.from_config(settings, json.loads(config)).train()


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _numbers(metrics: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _together(found: list[Found], weights: list[float]) -> Found:
    """What several shares say, as one batch would."""

    def mean(values: list[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True))

    first = found[0]
    return Found(
        loss=mean([one.loss for one in found]),
        metrics={name: mean([float(one.metrics[name]) for one in found]) for name in first.metrics},
        carry={name: torch.cat([one.carry[name] for one in found]) for name in first.carry},
    )
