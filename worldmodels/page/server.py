"""The web server: files of the page, and a websocket for each page that is open."""

import asyncio
import contextlib
import socket
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from worldmodels.core import schema
from worldmodels.core.errors import UserError
from worldmodels.page import messages
from worldmodels.page.guard import SAFE, Guard
from worldmodels.page.seat import Seat
from worldmodels.settings.commands import PlayConfig
from worldmodels.workers.local import TO_TIDY_UP

FILES = {path.name: path for path in (Path(__file__).parent / "static").iterdir()}
MOST_PAGES = 8
Why = tuple[int, str]
"""Why a websocket is closed: the code, and the reason for people, of at most 123 bytes."""
UNFIT = 1008
FULL = 1013, f"{MOST_PAGES} pages are open already; close one, and load this again"
ENDED = 1011, "what was behind this page has ended; load it again"


class Server:
    """Pages of one run.

    Args:
        config: what to show, and where.
    """

    def __init__(self, config: PlayConfig) -> None:
        self._config = config
        self._pages = 0
        self._socket = bound(config.host, config.port)
        routes = [
            Route("/", self._file),
            Route("/{name}", self._file),
            WebSocketRoute("/play", self._play),
        ]
        self._app = Starlette(routes=routes, middleware=[Middleware(Guard, bound=config.host)])

    @property
    def address(self) -> str:
        """Where to open it here."""
        port = self._socket.getsockname()[1]
        host = self._config.host
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def serve(self) -> None:
        """Until Ctrl-C."""
        options = uvicorn.Config(
            self._app,
            log_level="warning",
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=messages.LARGEST,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=round(2 * TO_TIDY_UP),
            proxy_headers=False,
            server_header=False,
        )
        with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
            uvicorn.Server(options).run(sockets=[self._socket])

    async def _file(self, request: Request) -> Response:
        path = FILES.get(request.path_params.get("name", "index.html"))
        if path is None:
            return Response("there is no such page\n", 404, SAFE, "text/plain")
        return FileResponse(path, headers=SAFE)

    async def _play(self, page: WebSocket) -> None:
        """One page, from when it is opened until it is closed."""
        await page.accept()
        if self._pages >= MOST_PAGES:
            await page.close(*FULL)
            return
        self._pages += 1
        try:
            async with Seat(self._config) as seat:
                await _until_one_leaves(page, seat)
        finally:
            self._pages -= 1


async def _until_one_leaves(page: WebSocket, seat: Seat) -> None:
    """Hands on what is said, until the page closes, speaks nonsense, or its process is gone."""
    tasks = [asyncio.create_task(_requests(page, seat)), asyncio.create_task(_answers(page, seat))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    why = done.pop().result()
    if why:
        await page.close(*why)


async def _requests(page: WebSocket, seat: Seat) -> Why | None:
    while (message := await page.receive())["type"] == "websocket.receive":
        try:
            request = messages.read(message.get("text") or message.get("bytes") or "")
        except schema.Wrong as wrong:
            return UNFIT, f"that cannot be asked for: {wrong}".encode()[:120].decode(errors="ignore")
        try:
            await seat.ask(request)
        except OSError:
            return ENDED
    return None


async def _answers(page: WebSocket, seat: Seat) -> Why | None:
    while True:
        try:
            message = await seat.heard()
        except EOFError:
            return ENDED
        try:
            await page.send_bytes(message)
        except WebSocketDisconnect:
            return None


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        UserError: naming the flag, if that cannot be.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} is no address of this machine ({error})") from error
    listening = socket.socket(family, kind)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen()  # whoever comes before the server is ready waits for it
    except OSError as error:
        listening.close()
        raise _refused(host, port, error) from error
    return listening


def _refused(host: str, port: int, error: OSError) -> UserError:
    if isinstance(error, PermissionError):
        return UserError(f"--port {port} is not for everyone to take; give one from 1024 on, or 0 for any that is free")
    if "in use" in (error.strerror or ""):
        return UserError(f"--port {port} is in use; give another, or 0 for any that is free")
    return UserError(f"--host {host} is no address of this machine ({error.strerror})")
