"""The run folder: what was asked (config.json), what happened (metrics.jsonl), where it stands (the checkpoint).

The same command again goes on from the last checkpoint, to the bit. Of several processes the first alone writes.
"""

import errno
import fcntl
import json
import shutil
import time
from pathlib import Path
from typing import Any

from worldmodels.core import checkpoint, distributed, files
from worldmodels.core.errors import UserError
from worldmodels.core.report import say
from worldmodels.settings.config import Stage, defaults, flag, plain

LOCK = ".lock"
OURS = (
    "config.json", "metrics.jsonl", "checkpoint.safetensors", "model.safetensors", "controller.safetensors",
    "tensorboard", "curves.png", "reconstructions.png", "calibration.png", "fitness.png", "scores.png",
    "dream_beside_reality.mp4", "dream.mp4", "reality.mp4",
)  # fmt: skip
"""All that stages and `evaluate` leave in a run's folder."""
LEADING = ("env", "distractor", "vision", "memory", "dream")
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
            that differs), or if another process is at work in it.
    """

    def __init__(self, folder: Path, config: Stage, kind: str, **built_on: str) -> None:
        self.folder, self.kind = folder, kind
        if distributed.is_main():
            self._lock()
            for path in folder.glob(".*.tmp"):  # what a killed process had in hand
                path.unlink()
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
        return self.folder / "checkpoint.safetensors"

    def save(self, tree: dict[str, Any]) -> None:
        """Saves the state of the run, atomically."""
        if not distributed.is_main():
            return
        checkpoint.save(self.checkpoint_path, f"{self.kind} run", tree)

    def resume(self) -> dict[str, Any] | None:
        """The last state saved, or None; metrics logged after it are dropped, for they will be logged again."""
        if not self.checkpoint_path.exists():
            self._rewind(0)
            return None
        tree = checkpoint.load(self.checkpoint_path, f"{self.kind} run")
        self._rewind(tree["step"])
        return tree

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl and the same numbers to TensorBoard."""
        if not distributed.is_main():
            return
        line = {"step": step, "time": round(time.time(), 2)} | {k: float(v) for k, v in metrics.items()}
        try:
            with self._metrics.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:  # whose own text names no file when a write fails
            raise UserError(f"{self._metrics} could not be written ({error.strerror}); free some space") from error
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # late: slow to import

            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in metrics.items():
            self._writer.add_scalar(f"{self.kind}/{name}", value, step)

    def history(self) -> list[dict[str, float]]:
        """All lines of metrics.jsonl, in order of step."""
        return [json.loads(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        return self._metrics.read_text(errors="replace").splitlines() if self._metrics.exists() else []

    def close(self) -> None:
        """Flushes TensorBoard's events."""
        if self._writer is not None:
            self._writer.close()

    def _lock(self) -> None:
        """Keeps other processes out of the folder as long as this one lives."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._locked = (self.folder / LOCK).open("w")
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
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _rewind(self, step: int) -> None:
        if not distributed.is_main():
            return
        kept = []
        for line in self._lines():
            try:
                kept += [line] if json.loads(line)["step"] <= step else []
            except (ValueError, TypeError, KeyError):  # the line in hand when the run was killed: logged again
                break
        files.write_text(self._metrics, "".join(line + "\n" for line in kept))

    def _agree(self, config: Stage, built_on: dict[str, str]) -> None:
        path = self.folder / "config.json"
        if not path.exists() or not self.checkpoint_path.exists():  # nothing was learnt yet: nothing to agree with
            return
        try:
            begun = json.loads(path.read_text())
            before_built = dict(begun["built_on"])
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error!r}); --fresh starts this stage anew") from error
        for name, value in built_on.items():
            if before_built.get(name) != value:
                raise UserError(f"{self.folder} was begun with {NOUNS[name]} than now; start anew with --fresh")
        before, now = begun.get("processes", 1), distributed.world_size()
        if before != now:
            raise UserError(
                f"{self.folder} was begun by {before} processes, not {now}; give torchrun "
                f"--nproc_per_node={before}, or start anew with --fresh"
            )
        asked = json.loads(json.dumps(config.identity()))
        begun = defaults(config) | begun  # settings that there are by now were then as they are by default
        for name in sorted(asked, key=lambda name: name not in LEADING):  # other defaults follow from these
            if begun.get(name) != asked[name]:
                raise UserError(
                    f"{self.folder} was begun with {flag(name)} {_typed(begun.get(name))}, not {_typed(asked[name])}; "
                    "give that again, start anew with --fresh, or choose another --run or --name"
                )


def _typed(value: Any) -> str:
    """A setting as it is typed on the command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
