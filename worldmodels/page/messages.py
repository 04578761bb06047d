"""What a page may ask for, and what it is told: all that passes through the websocket.

A page sends JSON. It gets bytes: how long the head is (uint32, little endian), the head, which is JSON, then what it
names under "blobs", end to end. Pictures are RGBA.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worldmodels.core import schema
from worldmodels.core.files import to_json

LARGEST = 65_536  # bytes of a request
LOWEST_TAU = 0.05
HIGHEST_TAU = 3.0
SPEEDS = (0.25, 0.5, 1, 2, 4)
DECIDED = "decided"  # a dream ends when M is sure,
SAMPLED = "sampled"  # or with the chance that it predicts
ENDS = (DECIDED, SAMPLED)
OWN_WORLD = "own"  # M's own world; an ensemble's: in each episode that of any one member,
NEW_WORLDS = "new"  # or in each episode another, in which a part of what M is shown is hidden,
MEMBER = "member"  # or that of one member of an ensemble: "member 2"
HIDDEN = 0.1  # the share of it
YOU = "you"
PLANNING = "planning in the dream"
COUNT = schema.whole(0, 10**9)
REQUESTS: dict[str, schema.Check] = {
    "act": schema.fields(do=schema.anything, action=schema.each(schema.number(-1, 1))),
    "who": schema.fields(do=schema.anything, name=schema.text(300)),
    "tau": schema.fields(do=schema.anything, value=schema.number(LOWEST_TAU, HIGHEST_TAU)),
    "ends": schema.fields(do=schema.anything, value=schema.one_of(*ENDS)),
    "world": schema.fields(do=schema.anything, value=schema.text(100)),
    "speed": schema.fields(do=schema.anything, value=schema.one_of(*SPEEDS)),
    "run": schema.fields(do=schema.anything, on=schema.flag),
    "step": schema.fields(do=schema.anything),
    "begin": schema.fields(do=schema.anything, new=schema.flag),
    "strip": schema.fields(do=schema.anything, episode=COUNT),
    "peek": schema.fields(do=schema.anything, episode=COUNT, frame=COUNT),
    "from": schema.fields(do=schema.anything, episode=COUNT, frame=COUNT),
    "film": schema.fields(do=schema.anything, on=schema.flag),
    "shown": schema.fields(do=schema.anything),
}
"""What a page may ask for: the name of it, and what goes with that."""


def read(text: str | bytes) -> dict[str, Any]:
    """A request. Raises schema.Wrong if it is none."""
    request = schema.parse(text)
    known = schema.fields({}, schema.anything, do=schema.one_of(*REQUESTS))
    known(request)
    REQUESTS[request["do"]](request)
    found: dict[str, Any] = request
    return found


@dataclass(frozen=True)
class Message:
    """Something that a page is told.

    Args:
        kind: hello, frame, strip, peek, film or trouble.
        head: plain data.
        pictures: name -> uint8 (H, W, 3).
        film: an mp4.
    """

    kind: str
    head: dict[str, Any]
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    film: bytes = b""

    def packed(self) -> bytes:
        """As it goes through the websocket."""
        blobs = [
            {"name": name, "height": picture.shape[0], "width": picture.shape[1]}
            for name, picture in self.pictures.items()
        ]
        head = to_json(self.head | {"kind": self.kind, "blobs": blobs}).encode()
        parts = [len(head).to_bytes(4, "little"), head, *map(_rgba, self.pictures.values()), self.film]
        return b"".join(parts)


def _rgba(picture: np.ndarray) -> bytes:
    whole = np.full((*picture.shape[:2], 4), 255, np.uint8)
    whole[..., :3] = picture
    return whole.tobytes()
