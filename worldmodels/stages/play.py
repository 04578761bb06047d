"""A page to play on.  worldmodels play RUN"""

import os
import sys
import webbrowser

from worldmodels.core.errors import UserError
from worldmodels.core.report import say
from worldmodels.page import contents, seat
from worldmodels.settings.commands import PlayConfig


def play(config: PlayConfig) -> None:
    """Serves the page until Ctrl-C."""
    try:
        from worldmodels.page import guard, server
    except ModuleNotFoundError as error:
        raise UserError(f"there is no {error.name}; the page needs it: pip install 'worldmodels[play]'") from error
    pages = server.Server(config)
    contents.opened(config)  # what is wrong with the run is told here, not on the page
    seat.prepare()
    say(f"{config.run} is played at {pages.address} until Ctrl-C")
    if not guard.is_loopback(config.host):
        say(f"note: --host {config.host} lets in everyone who can reach this machine by its address")
    if config.browser and not _shown(pages.address):
        say("note: no browser was found here; open that address in one")
    sys.stdout.flush()
    pages.serve()


def _shown(address: str) -> bool:
    """Whether a browser was asked to open it. Those that would take over the terminal are not."""
    has_windows = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(has_windows) and webbrowser.open(address)
