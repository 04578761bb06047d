"""A stage as a process of its own, whose words and bars come to us."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from worldmodels.core import progress
from worldmodels.core.errors import UserError
from worldmodels.core.report import say

HOME = str(Path(__file__).parents[2])
OFTEN = 0.5  # seconds between looks at the clock
Hear = Callable[[dict[str, Any]], None]
"""Is given what a process tells of how far it is."""


def run_stage(words: list[str], hear: Hear, tick: Callable[[], None]) -> None:
    """Runs `worldmodels WORDS` to its end. Its words are printed as they come.

    Ctrl-C is passed on, once, and it may save what it has in hand. It dies when this process does, even by kill -9.

    Args:
        words: a command and its flags.
        hear: what it tells (core/progress.py).
        tick: is called about twice a second.

    Raises:
        SystemExit: with its exit code, if it failed; it has said why.
        UserError: if it was killed.
    """
    ours, theirs = os.pipe()
    process = _started(words, theirs)
    os.close(theirs)
    try:
        with open(ours, "rb", buffering=0) as told:  # noqa: PTH123 (a descriptor)
            _listen(process, told, hear, tick)
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code < 0:
        name = signal.Signals(-code).name
        raise UserError(f"{words[0]} was killed by {name}; the same command again goes on from what is complete")
    if code:
        sys.exit(code)


def _started(words: list[str], theirs: int) -> "subprocess.Popen[bytes]":
    places = os.pathsep.join(filter(None, [HOME, os.environ.get("PYTHONPATH")]))
    said = {"PYTHONPATH": places, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    here = str(Path.cwd()) in sys.path or "" in sys.path  # modules of the folder where one works are found as by us
    return subprocess.Popen(
        [sys.executable, *([] if here else ["-P"]), "-m", "worldmodels", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | said | {progress.TOLD: f"{os.getpid()}:{theirs}"},
        pass_fds=[theirs],
        process_group=0,  # Ctrl-C is ours to pass on
    )


def _listen(process: "subprocess.Popen[bytes]", told: Any, hear: Hear, tick: Callable[[], None]) -> None:
    """Passes on what the process says, until it has ended."""
    receivers = {
        process.stdout: say,
        process.stderr: lambda line: tqdm.write(line, file=sys.stderr),
        told: lambda line: hear(json.loads(line)),
    }
    left = dict.fromkeys(receivers, b"")  # the beginning of a line whose end has not come yet
    with selectors.DefaultSelector() as selector:
        for pipe in receivers:
            selector.register(pipe, selectors.EVENT_READ)
        while left:
            try:
                ended = process.poll() is not None  # what it left running may hold the pipes open
                ready = selector.select(0 if ended else OFTEN)
                for key, _ in ready:
                    _receive(key.fileobj, left, receivers, selector)
                if ended and not ready:
                    return
                tick()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)


def _receive(pipe: Any, left: dict[Any, bytes], receivers: dict[Any, Callable[[str], None]], selector: Any) -> None:
    """Hands on the lines that have come; of a pipe that has ended, its last."""
    some = os.read(pipe.fileno(), 1 << 16)
    *lines, rest = (left[pipe] + some).split(b"\n")
    if not some:
        lines = [rest] if rest else []
        selector.unregister(pipe)
        del left[pipe]
    else:
        left[pipe] = rest
    for line in lines:
        receivers[pipe](line.decode(errors="replace"))
