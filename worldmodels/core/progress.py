"""Bars that say how far a command is. `worldmodels run` shows those of all stages as one: a stage that it starts tells
it where its bars stand, instead of drawing them.
"""

import ctypes
import io
import json
import os
import signal
import sys
from typing import Any

from tqdm import tqdm

TOLD = "WORLDMODELS_PROGRESS"
"""The environment variable that names whom to tell: `<process>:<descriptor of a pipe>`, inherited from `run`."""
DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


def bar(**settings: Any) -> "tqdm[Any]":
    """A progress bar with tqdm's settings."""
    return _Told(**settings) if is_told() else tqdm(**settings)


def is_told() -> bool:
    """Whether `worldmodels run` started this process, and shows how far it is; those that this one starts are not."""
    return os.environ.get(TOLD, "").startswith(f"{os.getppid()}:")


def tell(**what: Any) -> None:
    """Sends a message to `worldmodels run`; nothing, if that did not start this process."""
    if is_told():
        os.write(int(os.environ[TOLD].split(":")[1]), json.dumps(what).encode() + b"\n")


def follow() -> None:
    """Makes this process die with the `worldmodels run` that started it, even by kill -9, so that the same command
    can go on at once; does nothing if it was started by a person."""
    if TOLD not in os.environ:
        return
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if not is_told():  # it died before that
        sys.exit(1)


class _Told(tqdm):  # type: ignore[misc]
    """A bar that is drawn elsewhere."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, file=io.StringIO())

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        tell(
            bar=self.desc,
            done=self.n,
            begun=self.initial,
            total=self.total,
            unit=self.unit,
            about=self.postfix,
        )
        return True
