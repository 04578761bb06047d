"""The training loop of stages 2 and 3, for any module that answers `loss(batch, carry, generator)`."""

import contextlib
import functools
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodels import models
from worldmodels.core import checkpoint, distributed, progress, schema, seeding
from worldmodels.core.allocator import keep_freed_memory
from worldmodels.core.device import autocast
from worldmodels.core.errors import UserError
from worldmodels.data.source import Batch, Source
from worldmodels.models.base import State, Trainable
from worldmodels.settings.stages import TrainConfig
from worldmodels.training.gradients import Gradients, helpers
from worldmodels.training.run import Run, goes_on
from worldmodels.workers.local import Workers

PARTLY_KNOWN = "ahead"  # of a batch: not a number where nobody knows
LOG_EVERY = 25  # steps
Batches = Callable[[int], Iterator[Batch]]
"""How many batches to pass over -> the batches after them, for ever."""
HeldOut = Callable[[], dict[str, float]]
STATE = schema.fields(
    step=schema.whole(0),
    weights=schema.weights,
    optimizer=schema.fields(
        state=schema.named(schema.weights, int),
        param_groups=schema.each(schema.anything),
    ),
    carry=schema.named(schema.any_of(schema.tensor("bfloat16", None, None), schema.tensor("float32", None, None))),
)
"""What the checkpoints of stages 2 and 3 hold."""


def learn(module: Trainable[Any], source: Source, config: TrainConfig, run: Run) -> None:
    """Trains `module` on the batches that it wants, made of `source`; see `fit`."""
    examples = module.wants.held_out(source)

    def held_out() -> dict[str, float]:
        return mean_loss(module, examples(), config, source.device)

    batches = functools.partial(module.wants.training, source)
    try:
        with helpers(module, config, source.device) as workers:
            fit(module, batches, held_out, config, run, source.device, workers)
    except UserError:
        run.abandon()
        raise


def start_from(module: Trainable[Any], config: TrainConfig, kind: str) -> None:
    """Has a new V ("vision") or M ("memory") begin with the weights of another run's, if --start-from names one.

    Where there is a checkpoint to go on from, nothing is taken from there any more.

    Raises:
        UserError: if that cannot be read, is another kind of V or M or of other sizes, or is what this command writes.
    """
    source = config.start_from / kind
    own = config.run / kind
    if config.start_from == Path() or goes_on(own, config):
        return
    given = f"--start-from {config.start_from}"
    if source.resolve() == own.resolve():
        raise UserError(f"{given} is where this command writes; give another --run")
    try:
        other, _ = models.load_module(source, kind)
    except UserError as error:
        raise UserError(f"{given}: {error}") from error
    if other.family != module.family:
        raise UserError(f"{given} holds a {other.family}, not a {module.family}; give --{kind} {other.family}")
    if _sizes(other) != _sizes(module):
        theirs = {name: value for name, value in other.config.items() if isinstance(value, bool | int | str)}
        differ = [f"{name} {value}" for name, value in theirs.items() if module.config.get(name) != value]
        raise UserError(f"{given} has weights of other sizes ({', '.join(differ)}); give what it was trained with")
    module.take_over(other)


def _sizes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


def fit(
    module: Trainable[Any],
    batches: Batches,
    held_out: HeldOut,
    config: TrainConfig,
    run: Run,
    device: torch.device,
    workers: Workers | None = None,
) -> None:
    """Trains `module` for `config.steps` gradient steps, going on from the run's checkpoint.

    Each step's randomness has a stream of its own, so a resumed run equals one that was never stopped, to the bit.
    Several processes (core/distributed.py) train on their own rows of each batch, and end with the same weights.

    Args:
        module: to be trained.
        batches: where data comes from: for all processes together.
        held_out: metrics on data that is never trained on; called at each checkpoint.
        config: sizes and rates; with `dry_run` no bar is shown.
        run: where metrics and checkpoints go.
        device: where to compute.
        workers: who compute shares of each gradient (gradients.py), if anybody does.

    Raises:
        UserError: if a loss or a gradient is not finite; the last checkpoint is untouched.
    """
    threads = distributed.threads(config.workers)
    # Threads wait for each other hundreds of times a step. While a neighbour has one of their cores each wait lasts
    # milliseconds, so one core is left free.
    torch.set_num_threads(max(1, threads - 1))
    keep_freed_memory()
    training = _Training(module, config, run, device, workers)
    hidden = config.dry_run or not distributed.is_main()
    with (
        patient() as interrupted,
        progress.bar(total=config.steps, initial=training.step, unit="step", desc=run.kind, disable=hidden) as bar,
    ):
        source = batches(training.step)
        while training.step < config.steps:
            found = training.advance(next(source))
            bar.update()
            training.record(found, held_out, bar, stop=interrupted())
    training.end()


class _Step(NamedTuple):
    """What a gradient step found."""

    loss: float
    learning_rate: float
    metrics: Mapping[str, torch.Tensor | float]


class _Training:
    """A module and all that changes with it from step to step, as its checkpoint holds them.

    Attributes:
        step: how many were made.
        carry: what the next batch goes on from (models/base.py: Trainable.loss).
    """

    def __init__(
        self,
        module: Trainable[Any],
        config: TrainConfig,
        run: Run,
        device: torch.device,
        workers: Workers | None,
    ) -> None:
        self.step = 0
        self.carry: State = {}
        self._module = module.to(device).train()
        self._config = config
        self._run = run
        self._device = device
        self._optimizer = torch.optim.Adam(module.parameters(), config.learning_rate, fused=True)
        saved = run.rewind(STATE)
        if saved:
            self._restore(saved)
        self._gradients = Gradients(module, config, device, workers)  # of the weights as they are by now

    def _restore(self, saved: dict[str, Any]) -> None:
        checkpoint.load_weights(self._module, saved["weights"], self._run.checkpoint_path)
        load_moments(self._optimizer, saved["optimizer"]["state"], self._run.checkpoint_path)
        if any(len(value) < distributed.world_size() for value in saved["carry"].values()):
            raise UserError(f"{self._run.checkpoint_path} goes on from too small a batch; start anew with --fresh")
        self.carry = self._mine(saved["carry"])
        self.step = saved["step"]

    def record(self, found: _Step, held_out: HeldOut, bar: Any, stop: bool) -> None:
        """Logs and saves what is due after a step.

        Raises:
            KeyboardInterrupt: if `stop`, once all is saved.
        """
        due = self.step == self._config.steps or self.step % self._config.save_every == 0
        if due or self.step % LOG_EVERY == 0:
            line = _line(found)
            bar.set_postfix({name: f"{value:.4g}" for name, value in line.items() if name != "learning_rate"})
            if due and distributed.is_main():
                line |= {f"held_out_{name}": value for name, value in held_out().items()}
            self._run.log(self.step, line)
        if due or stop:
            self._save()
        if stop:
            raise KeyboardInterrupt

    def end(self) -> None:
        """Leaves the module as it is to be used: the same in all processes, and no longer learning."""
        distributed.copy_from_main(self._module.buffers())
        self._module.eval()
        self._run.close()

    def _save(self) -> None:
        self._run.save(
            {
                "step": self.step,
                "weights": self._module.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "carry": distributed.gather(self.carry),
            }
        )

    def advance(self, batch: Batch) -> _Step:
        """A gradient step on a batch for all processes.

        Raises:
            UserError: if the loss or its gradient is not finite, or the carried state does not fit the batch.
        """
        if batch.pop("fresh", False):
            self.carry = {}
        batch = self._mine(batch)
        _check_carry(self.carry, batch, self._module, self._run)
        rate = _learning_rate(self._config, self.step)
        found = self._gradients.of(batch, self.carry, self._run.kind, self.step)
        self._check_loss(found.loss, batch)
        self._descend(rate)
        self._module.after_step()
        self.carry = found.carry
        self.step += 1
        return _Step(found.loss, rate, found.metrics)

    def _mine(self, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """This process's share, where it computes."""
        return {name: value.to(self._device) for name, value in distributed.share(rows).items()}

    def _check_loss(self, loss: float, batch: dict[str, torch.Tensor]) -> None:
        if math.isfinite(loss):
            return
        certain = {name: value for name, value in batch.items() if name != PARTLY_KNOWN}
        if damaged := [name for name, value in certain.items() if not value.float().isfinite().all()]:
            raise UserError(f"{damaged[0]} of a batch of {self._run.folder} is not finite: its data is damaged")
        raise self._diverged(f"the loss is {loss}")

    def _descend(self, rate: float) -> None:
        """Moves the weights down the gradient, unless that is not finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self._module.parameters(), self._config.max_norm or math.inf)
        if not math.isfinite(float(norm)):  # before it reaches the weights, and what follows them
            raise self._diverged("the gradient is not finite")
        if self._config.clip:
            torch.nn.utils.clip_grad_value_(self._module.parameters(), self._config.clip)
        self._optimizer.step()

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"{what} at step {self.step} of {self._run.folder}; try --fresh with a --learning-rate below "
            f"{self._config.learning_rate:g} or with --precision fp32 (the last checkpoint is kept)"
        )


def _line(found: _Step) -> dict[str, float]:
    """A step as a line of metrics, in mean over the processes."""
    metrics = {name: float(value) for name, value in found.metrics.items()}
    return {"loss": found.loss, "learning_rate": found.learning_rate} | distributed.mean(metrics)


def load_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, torch.Tensor]], source: Path) -> None:
    """Puts Adam where it was; its settings are those of the command.

    Raises:
        UserError: naming the file `source`, if it was another module's.
    """
    own = optimizer.state_dict()["param_groups"]
    parameters = dict(enumerate(optimizer.param_groups[0]["params"]))
    for number, state in moments.items():  # parameters that no loss asks for have none
        found = {name: (value.dtype, value.shape) for name, value in state.items()}
        like = (parameters[number].dtype, parameters[number].shape) if number in parameters else None
        if found != {"step": (torch.float32, torch.Size()), "exp_avg": like, "exp_avg_sq": like}:
            raise UserError(f"{source} holds an optimizer of another model; start anew with --fresh")
    optimizer.load_state_dict({"state": moments, "param_groups": own})


def _check_carry(carry: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], module: Any, run: Run) -> None:
    """Raises UserError if a state carried on does not fit the next batch."""
    if not carry:
        return
    shape = (len(next(iter(batch.values()))), getattr(module, "hidden_size", None))
    if carry.keys() != {"h", "c"} or any(value.shape != shape for value in carry.values()):
        raise UserError(f"{run.checkpoint_path} goes on from a batch of another size; start anew with --fresh")


@contextlib.contextmanager
def patient() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the step in hand, so that it can be saved; the second one does not. Yields whether it came.

    Of several processes none waits: each would stop at a step of its own.
    """
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    if distributed.world_size() > 1 or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)


def mean_loss(
    module: Trainable[Any], batches: Iterator[Batch], config: TrainConfig, device: torch.device
) -> dict[str, float]:
    """Metrics in mean over batches, always with the same noise."""
    module.eval()
    lines: list[dict[str, float]] = []
    carry: State = {}
    for i, batch in enumerate(batches):
        carry = {} if batch.get("fresh", False) else carry
        batch = {name: value.to(device) for name, value in batch.items() if name != "fresh"}
        with torch.no_grad(), autocast(device, config.precision):
            loss, metrics, carry = module.loss(batch, carry, seeding.generator(config.seed, "held out", i))
        lines.append({"loss": float(loss)} | {name: float(value) for name, value in metrics.items()})
    module.train()
    return {name: float(np.mean([line[name] for line in lines])) for name in lines[0]}


def _learning_rate(config: TrainConfig, step: int) -> float:
    ratio = config.final_learning_rate / config.learning_rate
    share = step / max(1, config.steps - 1)
    return float(config.learning_rate * ratio**share)
