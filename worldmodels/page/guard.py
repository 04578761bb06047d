"""Who is listened to: this server's own page, and no other site that a browser happens to be on.

A page of another site may make a browser send requests here. Their Origin tells them apart, and where a stranger's
name was made to mean 127.0.0.1 (DNS rebinding), their Host: it is that name, and ours is an address.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SAFE = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What a browser is told with every file: nothing comes from elsewhere, and nobody else shows it."""


def host_is_ours(host: str, bound: str) -> bool:
    """Whether a Host header (name, or name:port) names this server.

    Args:
        host: the header.
        bound: what the server was asked to listen at. If that is this machine's own, so is `host` to be.
    """
    name = _name(host)
    if name in ("localhost", bound):
        return True
    local = is_loopback(bound)
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback or not local
    return not local and name == socket.gethostname().lower()


def origin_is_ours(origin: str, host: str) -> bool:
    """Whether an Origin header is that of the page which was fetched from `host`."""
    return bool(host) and origin.lower() == f"http://{host.lower()}"


def is_loopback(bound: str) -> bool:
    """Whether nobody else can reach a server that listens there."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(bound).is_loopback
    return bound == "localhost"


def _name(host: str) -> str:
    """The name or address in a Host header; "" if there is none."""
    with contextlib.suppress(ValueError):
        return urlsplit(f"//{host}").hostname or ""
    return ""


class Guard:
    """Answers what is ours, and refuses all else before anything is done.

    Args:
        app: the application behind it.
        bound: what the server listens at.
    """

    def __init__(self, app: ASGIApp, bound: str) -> None:
        self._app = app
        self._bound = bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not (why := self._refusal(scope["type"], Headers(scope=scope))):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why})
        else:
            await PlainTextResponse(why, 403)(scope, receive, send)

    def _refusal(self, kind: str, headers: Mapping[str, str]) -> str:
        """Why a request is not answered; "" if it is."""
        host = headers.get("host", "")
        if not host_is_ours(host, self._bound):
            return "this server is not called that; open the address that it printed"
        origin = headers.get("origin", "")
        if (origin or kind == "websocket") and not origin_is_ours(origin, host):
            return "only this server's own page may ask"
        return ""
