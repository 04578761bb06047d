"""The training loop of stages 2 and 3, for any module that answers `loss(batch, carry, generator)`."""

import contextlib
import functools
import math
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldmodels.core import checkpoint, distributed, schema, seeding
from worldmodels.core.allocator import keep_freed_memory
from worldmodels.core.device import autocast
from worldmodels.core.errors import UserError
from worldmodels.data.source import Batch, Source
from worldmodels.models.base import State, Trainable
from worldmodels.settings.config import TrainConfig
from worldmodels.training.run import Run

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


def learn(module: Trainable, source: Source, config: TrainConfig, run: Run) -> None:
    """Trains `module` on the batches that it wants, made of `source`; see `fit`."""
    examples = module.wants.held_out(source)

    def held_out() -> dict[str, float]:
        return mean_loss(module, examples(), config, source.device)

    fit(module, functools.partial(module.wants.training, source), held_out, config, run, source.device)


def fit(
    module: Trainable,
    batches: Batches,
    held_out: HeldOut,
    config: TrainConfig,
    run: Run,
    device: torch.device,
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

    Raises:
        UserError: if a loss or a gradient is not finite; the last checkpoint is untouched.
    """
    torch.set_num_threads(distributed.threads(config.workers))
    keep_freed_memory()
    module.to(device).train()
    optimizer = torch.optim.Adam(module.parameters(), config.learning_rate, fused=True)
    step, carry = 0, {}
    saved = run.resume(STATE)
    if saved:
        checkpoint.load_weights(module, saved["weights"], run.checkpoint_path)
        _load_moments(optimizer, saved["optimizer"]["state"], run)
        if any(len(value) < distributed.world_size() for value in saved["carry"].values()):
            raise UserError(f"{run.checkpoint_path} goes on from too small a batch; start anew with --fresh")
        carry = {name: value.to(device) for name, value in distributed.share(saved["carry"]).items()}
        step = saved["step"]
    loss_of, rank = distributed.synchronised(module), distributed.rank()
    shown = rank == 0 and not config.dry_run
    with (
        _patient() as interrupted,
        tqdm(total=config.steps, initial=step, unit="step", desc=run.kind, disable=not shown) as bar,
    ):
        source = batches(step)
        while step < config.steps:
            batch = next(source)
            carry = {} if batch.pop("fresh", False) else carry
            batch = {name: value.to(device) for name, value in distributed.share(batch).items()}
            _check_carry(carry, batch, module, run)
            rate = _learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            stream = (run.kind, step, rank) if rank else (run.kind, step)
            with autocast(device, config.precision):
                loss, metrics, carry = loss_of(batch, carry, seeding.generator(config.seed, *stream))
            line = distributed.mean({"loss": float(loss.detach())})
            if not math.isfinite(line["loss"]):
                if damaged := [name for name, value in batch.items() if not value.float().isfinite().all()]:
                    raise UserError(f"{damaged[0]} of a batch of {run.folder} is not finite: its data is damaged")
                raise _diverged(f"the loss is {line['loss']}", step, config, run)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(module.parameters(), config.max_norm or math.inf)
            if not math.isfinite(float(norm)):  # before it reaches the weights, and what follows them
                raise _diverged("the gradient is not finite", step, config, run)
            if config.clip:
                torch.nn.utils.clip_grad_value_(module.parameters(), config.clip)
            optimizer.step()
            module.after_step()
            step += 1
            bar.update()
            last, save, stop = step == config.steps, step % config.save_every == 0, interrupted()
            if step % LOG_EVERY == 0 or save or last:
                line |= {"learning_rate": rate}
                line |= distributed.mean({name: float(value) for name, value in metrics.items()})
                bar.set_postfix({name: f"{value:.4g}" for name, value in line.items() if name != "learning_rate"})
                if (save or last) and rank == 0:
                    line |= {f"held_out_{name}": value for name, value in held_out().items()}
                run.log(step, line)
            if save or last or stop:
                whole = distributed.gather(carry)
                run.save(
                    {"step": step, "weights": module.state_dict(), "optimizer": optimizer.state_dict(), "carry": whole}
                )
            if stop:
                raise KeyboardInterrupt
    distributed.copy_from_main(module.buffers())
    module.eval()
    run.close()


def _load_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, torch.Tensor]], run: Run) -> None:
    """Puts Adam where it was; its settings are those of the command. Raises UserError if it was another module's."""
    own = optimizer.state_dict()["param_groups"]
    parameters = dict(enumerate(optimizer.param_groups[0]["params"]))
    for number, state in moments.items():  # parameters that no loss asks for have none
        found = {name: (value.dtype, value.shape) for name, value in state.items()}
        like = (parameters[number].dtype, parameters[number].shape) if number in parameters else None
        if found != {"step": (torch.float32, torch.Size()), "exp_avg": like, "exp_avg_sq": like}:
            raise UserError(f"{run.checkpoint_path} holds an optimizer of another model; start anew with --fresh")
    optimizer.load_state_dict({"state": moments, "param_groups": own})


def _check_carry(carry: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], module: Any, run: Run) -> None:
    """Raises UserError if a state carried on does not fit the next batch."""
    if not carry:
        return
    shape = (len(next(iter(batch.values()))), getattr(module, "hidden_size", None))
    if carry.keys() != {"h", "c"} or any(value.shape != shape for value in carry.values()):
        raise UserError(f"{run.checkpoint_path} goes on from a batch of another size; start anew with --fresh")


@contextlib.contextmanager
def _patient() -> Iterator[Callable[[], bool]]:
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


def _diverged(what: str, step: int, config: TrainConfig, run: Run) -> UserError:
    return UserError(
        f"{what} at step {step} of {run.folder}; try --fresh with a --learning-rate below {config.learning_rate:g} or "
        "with --precision fp32 (the last checkpoint is kept)"
    )


def mean_loss(
    module: Trainable, batches: Iterator[Batch], config: TrainConfig, device: torch.device
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
    return config.learning_rate * ratio ** (step / max(1, config.steps - 1))
