"""The run folder: what was asked (config.json), what happened (metrics.jsonl), where it stands (the checkpoint).

The same command again goes on from the last checkpoint, to the bit. Of several processes the first alone writes.
"""

import errno
import fcntl
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from worldmodels.core import checkpoint, distributed, files, schema
from worldmodels.core.errors import UserError
from worldmodels.core.report import say
from worldmodels.settings.flags import flag
from worldmodels.settings.shared import Stage, defaults, plain

LOCK = ".lock"
CHECKPOINT = "checkpoint.safetensors"
RESULTS = ("model.safetensors", "controller.safetensors")
OURS = (
    CHECKPOINT,
    *RESULTS,
    "metrics.jsonl",
    "tensorboard",
    "curves.png",
    "reconstructions.png",
    "calibration.png",
    "fitness.png",
    "scores.png",
    "dream_beside_reality.mp4",
    "dream.mp4",
    "reality.mp4",
    "vision.json",
    "memory.json",
    "controller.json",
    "evaluate.json",
    "config.json",
)
"""All that stages and `evaluate` leave in a run's folder, in the order in which --fresh deletes it.

What was learnt comes first, and last what tells with which settings: a kill in between passes off nothing old as new.
"""
CONFIG = schema.fields(
    None,
    schema.anything,  # settings are compared with those that are asked for
    built_on=schema.named(schema.text(100)),
)
LINE = schema.fields(
    None,
    schema.maybe(schema.number(finite=False)),
    step=schema.whole(0),
)
"""A line of metrics.jsonl; null stands for a number that was not finite."""
STATE = schema.fields(None, schema.anything, step=schema.whole(0))
LARGEST_CONFIG = 1 << 20  # bytes
NOUNS = {"rollouts": "other rollouts", "vision": "another V", "model": "another V or M"}


class Run:
    """A folder that holds one stage of one run.

    Args:
        folder: made if absent.
        config: what this stage was asked to do; must agree with what the folder was begun with.
        kind: what its checkpoints hold, e.g. "vision".
        built_on: fingerprints of the earlier stages' results that this stage learns from.

    Raises:
        UserError: if the folder was begun with other settings, or on another V or M (the message names the first flag
            that differs), if another process is at work in it, or if it is a link.
    """

    def __init__(self, folder: Path, config: Stage, kind: str, **built_on: str) -> None:
        if folder.is_symlink():  # whose --fresh would delete what others see by
            raise UserError(f"{folder} is a link to what was learnt elsewhere; remove the link, or give another --run")
        self.folder = folder
        self.kind = kind
        self._made = files.absent(folder)
        if distributed.is_main():
            self._lock()
            files.sweep(folder)
            if config.fresh:
                self._clear()
        distributed.barrier()
        self._agree(config, built_on)
        distributed.barrier()
        if distributed.is_main():
            record = plain(config) | {"built_on": built_on, "processes": distributed.world_size()}
            files.write_text(folder / "config.json", json.dumps(record, indent=2) + "\n")
        self._writer: Any = None
        self._metrics = folder / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        """Where the state of the run lies: all that is needed to go on."""
        return self.folder / CHECKPOINT

    def save(self, tree: dict[str, Any]) -> None:
        """Saves the state of the run, atomically."""
        if not distributed.is_main():
            return
        checkpoint.save(self.checkpoint_path, f"{self.kind} run", tree)

    def rewind(self, holds: schema.Check = STATE) -> dict[str, Any] | None:
        """Goes back to the last state saved, and gives it; or to the beginning, and gives None.

        Metrics that were logged after it are deleted from metrics.jsonl, for they will be logged again.

        Args:
            holds: what such a state must be: it has a "step", at least.

        Raises:
            UserError: if it is anything else, or damaged.
        """
        if not self.checkpoint_path.exists():
            self._drop_metrics_after(0)
            return None
        tree = checkpoint.load(self.checkpoint_path, f"{self.kind} run", holds)
        self._drop_metrics_after(tree["step"])
        return tree

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl and the same numbers to TensorBoard."""
        if not distributed.is_main():
            return
        line = {"step": step, "time": round(time.time(), 2)}
        line |= {name: float(value) for name, value in metrics.items()}
        try:
            with files.opened_to_write(self._metrics, "a") as file:
                file.write(files.to_json(line) + "\n")
        except OSError as error:  # whose own text names no file when a write fails
            help_ = files.HELP.get(error.errno or 0, "see to its disk")
            raise UserError(f"{self._metrics} could not be written ({error.strerror}): {help_}") from error
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # late: slow to import

            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in metrics.items():
            self._writer.add_scalar(f"{self.kind}/{name}", value, step)

    def history(self) -> list[dict[str, float]]:
        """All lines of metrics.jsonl that can be read, in order of step; nan where a number was not finite."""
        lines = [line for line in map(_line, self._lines()) if line]
        return [{name: math.nan if value is None else value for name, value in line.items()} for line in lines]

    def final(self) -> dict[str, float]:
        """The last line with held-out metrics, or nothing if there is none (any more)."""
        checked = [line for line in self.history() if any("held_out_" in name for name in line)]
        return checked[-1] if checked else {}

    def _lines(self) -> list[str]:
        if not self._metrics.exists():
            return []
        return files.read_bytes(self._metrics).decode(errors="replace").split("\n")

    def close(self) -> None:
        """Flushes TensorBoard's events."""
        if self._writer is not None:
            self._writer.close()

    def abandon(self) -> None:
        """Leaves no folder behind that this run has made, if nothing was learnt in it: what was asked was refused."""
        if not (self._made and distributed.is_main()) or self._has_learnt():
            return
        self.close()
        self._clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        files.remove_empty(self._made)

    def _has_learnt(self) -> bool:
        return any((self.folder / name).exists() for name in (CHECKPOINT, *RESULTS))

    def _lock(self) -> None:
        """Keeps other processes out of the folder as long as this one lives."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._locked = files.opened_to_write(self.folder / LOCK, "r+")
        try:
            fcntl.lockf(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                busy = f"another process is at work in {self.folder}; wait for it, or give another --run"
                raise UserError(busy) from error
            say(f"{self.folder} cannot be locked ({error.strerror}): see to it that no other command works in it")

    def _clear(self) -> None:
        """Deletes what a run leaves, and nothing else that may lie beside it."""
        for path in (self.folder / name for name in OURS):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _drop_metrics_after(self, step: int) -> None:
        """Deletes the metrics logged after `step`, and lines that cannot be read; no others."""
        if not distributed.is_main():
            return
        lines = self._lines()
        known = [_line(text) for text in lines]
        kept = [line for line in known if line and line["step"] <= step]
        files.write_text(self._metrics, "".join(files.to_json(line) + "\n" for line in kept))
        spoilt = known[:-1].count(None)  # the last one was in hand when it was killed, or is empty
        if spoilt:
            say(f"{self._metrics}: {spoilt} lines of it could not be read and are left out")

    def _agree(self, config: Stage, built_on: dict[str, str]) -> None:
        path = self.folder / "config.json"
        if not self._has_learnt():
            return  # nothing was learnt yet: nothing to agree with
        if not path.exists():
            raise UserError(
                f"what was learnt in {self.folder} lies there without config.json, so that nobody knows what was asked "
                "for; --fresh starts this stage anew, or give another --run"
            )
        try:
            begun = schema.parse(files.read_bytes(path, LARGEST_CONFIG))
            CONFIG(begun)
        except schema.Wrong as wrong:
            raise UserError(f"{path} is damaged ({wrong}); --fresh starts this stage anew") from wrong
        before_built = begun["built_on"]
        for name, value in built_on.items():
            if before_built.get(name) != value:
                raise UserError(f"{self.folder} was begun with {NOUNS[name]} than now; start anew with --fresh")
        before = begun.get("processes", 1)
        now = distributed.world_size()
        if before != now:
            raise UserError(
                f"{self.folder} was begun by {_typed(before)} processes, not {now}; give torchrun "
                f"--nproc_per_node={_typed(before)}, or start anew with --fresh"
            )
        asked = json.loads(json.dumps(config.identity()))
        begun = defaults(config) | begun  # settings that there are by now were then as they are by default
        leading = config.leading()
        for name in sorted(asked, key=lambda name: name not in leading):
            if begun.get(name) != asked[name]:
                raise UserError(
                    f"{self.folder} was begun with {flag(name)} {_typed(begun.get(name))}, not {_typed(asked[name])}"
                    f"{_preset(begun.get('preset'), config.preset)}; "
                    "give that again, start anew with --fresh, or choose another --run or --name"
                )


def goes_on(folder: Path, config: Stage) -> bool:
    """Whether there is a state of the run in `folder` that this command goes on from."""
    return (folder / CHECKPOINT).exists() and not config.fresh


def _line(text: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl, or None if it is none."""
    try:
        line: dict[str, Any] = schema.parse(text)
        LINE(line)
    except schema.Wrong:
        return None
    return line


def _preset(before: Any, now: str) -> str:
    """Which presets two commands had, if that is why they differ."""
    return "" if before in (None, now) else f" (by --preset {_typed(before)}, not {now})"


def _typed(value: Any) -> str:
    """A setting as it is typed on the command line."""
    said = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return said if len(said) <= 200 else f"{said[:200]}..."
