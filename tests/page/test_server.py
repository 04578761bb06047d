"""The server as a program speaks to it: who is listened to, and what becomes of pages that close or die."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.conftest import descendants
from tests.page.conftest import Served
from worldmodels.core import schema
from worldmodels.page import messages
from worldmodels.page.guard import host_is_ours, origin_is_ours
from worldmodels.page.seat import AHEAD, Pace

PATIENCE = 100  # seconds, on a machine that is busy


@contextlib.contextmanager
def page(served: Served, host: str = "", origin: str | None = None) -> Iterator[ClientConnection]:
    """A page that is open."""
    address, port = served.host.split(":")
    asked = f"http://{served.host}" if origin is None else origin
    with connect(
        f"ws://{host or address}:{port}/play",
        sock=socket.create_connection((address, int(port))),
        origin=Origin(asked) if asked else None,
        max_size=None,
        proxy=None,
        compression=None,
        open_timeout=PATIENCE,
    ) as line:
        yield line


def told(line: ClientConnection) -> dict[str, Any]:
    """The head of the next message."""
    message = line.recv(timeout=PATIENCE)
    assert isinstance(message, bytes)
    head: dict[str, Any] = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
    return head


def ask(line: ClientConnection, do: str, **more: Any) -> None:
    line.send(json.dumps({"do": do, **more}))


def engines(served: Served) -> list[int]:
    """The Doom engines that the server's processes run."""
    found = []
    for process in descendants(served.pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            found += [process] if words[0].endswith(b"vizdoom") else []
    return found


def soon(holds: Any) -> bool:
    until = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(holds())


def get(served: Served, path: str, **headers: str) -> http.client.HTTPResponse:
    line = http.client.HTTPConnection(served.host, timeout=PATIENCE)
    line.request("GET", path, headers=headers)
    return line.getresponse()


def test_files_are_served_to_its_own_name_only(served: Served) -> None:
    answer = get(served, "/")
    assert answer.status == 200 and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    port = served.host.split(":")[1]
    assert get(served, "/main.js", Host=f"localhost:{port}").status == 200
    for host in (f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "", f"192.168.1.5:{port}"):
        assert get(served, "/", Host=host).status in (400, 403)
    assert get(served, "/", Origin="http://evil.example").status == 403
    for path in ("/nothing", "/../server.py", "/%2e%2e/server.py", "/play"):
        assert get(served, path).status in (403, 404)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("", "http://evil.example"),
        ("", "http://127.0.0.1:1"),
        ("", "null"),
        ("", ""),
        ("evil.example", "its own"),  # DNS rebinding: a stranger's name that means 127.0.0.1
    ],
)
def test_other_sites_get_no_page(served: Served, host: str, origin: str) -> None:
    if origin == "its own":
        origin = f"http://{host}:{served.host.split(':')[1]}"
    with pytest.raises(InvalidStatus) as refused, page(served, host, origin):
        pass
    assert refused.value.response.status_code == 403


def test_names_that_are_ours() -> None:
    for bound in ("127.0.0.1", "localhost", "::1"):
        assert host_is_ours("127.0.0.1:8000", bound) and host_is_ours("localhost", bound)
        assert host_is_ours("[::1]:8000", bound)
        for host in ("evil.example", "192.168.1.5:8000", "localhost.evil.example", "", "[", "127.0.0.1@evil.example"):
            assert not host_is_ours(host, bound)
    assert host_is_ours("192.168.1.5:8000", "0.0.0.0") and host_is_ours(socket.gethostname(), "0.0.0.0")
    assert not host_is_ours("evil.example:8000", "0.0.0.0") and host_is_ours("my.lan:1", "my.lan")
    assert origin_is_ours("http://localhost:1", "localhost:1") and not origin_is_ours("http://localhost", "")
    assert not origin_is_ours("https://localhost:1", "localhost:1")


def test_pages_do_not_disturb_each_other_and_free_their_environments(served: Served) -> None:
    with page(served) as first, page(served) as second:
        assert told(first)["kind"] == told(second)["kind"] == "hello"
        assert told(first)["fresh"] and told(second)["fresh"]
        assert len(engines(served)) == 2
        ask(first, "who", name="right")
        assert told(first)["who"] == "right"
        ask(second, "step")
        assert told(second)["who"] == "you"
        (own,) = {Path(f"/proc/{engine}/stat").read_text().split()[3] for engine in engines(served)[:1]}
        os.kill(int(own), signal.SIGKILL)
        ends = []
        for line in (first, second):
            with contextlib.suppress(ConnectionClosed):
                ask(line, "step")
                told(line)
                ends.append("goes on")
        assert ends == ["goes on"] and soon(lambda: len(engines(served)) == 1)
    assert soon(lambda: not engines(served))


def test_nonsense_closes_the_page_that_speaks_it(served: Served) -> None:
    with page(served) as line:
        told(line)
        line.send('{"do": "tau", "value": 1e9}')
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                told(line)
        assert closed.value.rcvd and "value" in closed.value.rcvd.reason


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"do": "go"}', '{"do": "act"}', '{"do": "act", "action": [2]}', '{"do": "tau", "value": NaN}',
     '{"do": "step", "more": 1}', '{"do": "who", "name": 1}', '{"do": "from", "episode": -1, "frame": 0}', "[" * 9000],
)  # fmt: skip
def test_requests_are_checked(text: str) -> None:
    with pytest.raises(schema.Wrong):
        messages.read(text)


def test_a_page_that_is_slow_is_waited_for() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    assert pace.wait(running=False) is None and pace.wait(running=True) == 0
    pace.stepped(rate=10)
    assert pace.wait(running=True) == pytest.approx(0.1)
    for _ in range(AHEAD):
        pace.sent()
    assert pace.wait(running=True) is None
    pace.shown()
    now = 5.0
    assert pace.wait(running=True) == 0
    pace.stepped(rate=10)
    assert pace.wait(running=True) == 0  # late, but what was lost is not made good:
    pace.stepped(rate=10)
    assert pace.wait(running=True) == pytest.approx(0.1)


def test_mistakes_end_in_one_line(served: Served, run: Path, tmp_path: Path) -> None:
    taken = served.host.split(":")[1]
    for words, said in (
        ([str(run), "--port", taken], f"--port {taken} is in use; give another"),
        ([str(run), "--host", "203.0.113.7"], "--host 203.0.113.7 is no address of this machine"),
        ([], "there is no pretrained/doom here; name a run"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "worldmodels", "play", *words], cwd=tmp_path, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1


def test_it_ends_with_ctrl_c_and_leaves_nothing(run: Path) -> None:
    served = Served(str(run), "--port", "0")
    try:
        with page(served) as line:
            told(line)
            processes = [served.pid, *descendants(served.pid)]
            served.send_signal(signal.SIGINT)
            _, errors = served.communicate(timeout=PATIENCE)
    finally:
        served.kill()
    assert served.returncode == 0 and errors == ""
    assert soon(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))


def test_the_extra_is_asked_for_where_it_is_missing(run: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from worldmodels.commands import run; run('play', ['RUN'])"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("RUN", str(run))], capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: there is no uvicorn; the page needs it: pip install 'worldmodels[play]'\n"
