"""A process behind each page, so that none waits for another; it ends with the page, and its environment with it."""

import asyncio
import atexit
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import multiprocess as mp
from multiprocess import forkserver
from multiprocess.connection import Connection

from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.page.messages import Message
from worldmodels.settings.commands import PlayConfig
from worldmodels.workers.local import ONE_THREAD, SAFE_PATH, TO_TIDY_UP, environment

AHEAD = 3  # frames on their way that a page has not shown yet


def prepare() -> None:
    """Starts the process that seats are forked off: it has imported all there is to import, and done nothing else."""
    forkserver.set_forkserver_preload(["worldmodels.page.session"])
    with environment(ONE_THREAD | SAFE_PATH):
        forkserver.ensure_running()


class Seat:
    """One page's process, as the server has it. To be used in `async with`."""

    def __init__(self, config: PlayConfig) -> None:
        self._config = config
        self._threads = ThreadPoolExecutor(3)  # to hear, to speak, and to end what waits at either

    async def __aenter__(self) -> "Seat":
        await self._beside(self._start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._beside(self._end)
        self._threads.shutdown(wait=False)

    async def ask(self, request: dict[str, Any]) -> None:
        """Hands on what the page asks for."""
        await self._beside(self._connection.send, request)

    async def heard(self) -> bytes:
        """The next message for the page. Raises EOFError when the process is gone."""
        message: bytes = await self._beside(self._hear)
        return message

    def _hear(self) -> bytes:
        try:
            return bytes(self._connection.recv_bytes())
        except OSError as error:  # killed in the middle of a message, or the line is closed
            raise EOFError from error

    async def _beside(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _start(self) -> None:
        context = mp.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self._config, plugins.typed())
        self._process = context.Process(target=_live, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        """The process meets the end of the line, and may tidy up."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)  # to close it would not wake who is waiting there
        self._process.join(timeout=TO_TIDY_UP)
        self._process.kill()
        self._process.join()
        self._connection.close()


class Pace:
    """When the next step is due: as often as it should be, and no faster than the page shows them."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._due = now()
        self._ahead = 0

    def wait(self, running: bool) -> float | None:
        """Seconds until the next step; None until the page asks for something."""
        if not running or self._ahead >= AHEAD:
            return None
        return max(0.0, self._due - self._now())

    def stepped(self, rate: float) -> None:
        """A step was made at `rate` a second; time that was lost is not made good."""
        self._due = max(self._due + 1 / rate, self._now())

    def sent(self) -> None:
        """A frame is on its way."""
        self._ahead += 1

    def shown(self) -> None:
        """The page has shown one."""
        self._ahead = max(0, self._ahead - 1)


def _live(connection: Connection, config: PlayConfig, modules: tuple[str, ...]) -> None:
    """A seat's life: requests in, messages out, until the line closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    import torch

    torch.set_num_threads(1)
    try:
        _serve(connection, config, modules)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the page is gone
        pass
    finally:
        atexit._run_exitfuncs()  # multiprocess leaves by os._exit, and environments are to tidy up


def _serve(connection: Connection, config: PlayConfig, modules: tuple[str, ...]) -> None:
    from worldmodels.page.contents import opened
    from worldmodels.page.session import Session, trouble

    pace = Pace()

    def send(messages: list[Message]) -> None:
        for message in messages:
            connection.send_bytes(message.packed())
            if message.kind == "frame":
                pace.sent()

    try:
        plugins.use(*modules)
        session = Session(opened(config), config.seed)
    except UserError as error:  # what lies in the run has changed since the server began
        send([trouble(str(error))])
        return
    try:
        send(session.hello())
        while True:
            if connection.poll(pace.wait(session.running)):
                request = connection.recv()
                if request["do"] == "shown":
                    pace.shown()
                else:
                    send(session.hear(request))
            else:
                pace.stepped(session.rate)
                send(session.tick())
    finally:
        session.close()
