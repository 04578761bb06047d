"""Episodes of the rollouts that V and M never learnt from: what a dream may set out from, beside what was just met."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldmodels.core.errors import UserError
from worldmodels.data.episode import Episode
from worldmodels.data.shard import open_shard

FIRST = 1  # the number of the first of them


class HeldOut:
    """The last episode of each shard, numbered from 1 on. One is kept at a time, for its frames fill memory.

    Args:
        shards: the files.
        label: of the environment that they must come from (settings/envspec.py).
    """

    def __init__(self, shards: Sequence[Path], label: str) -> None:
        self._shards = shards
        self._label = label
        self._opened: dict[int, Episode] = {}

    def listed(self) -> list[dict[str, Any]]:
        """The number and the name of each, for a page."""
        numbered = enumerate(self._shards, FIRST)
        return [{"number": number, "name": f"held out, {path.stem}"} for number, path in numbered]

    def episode(self, number: int) -> Episode:
        """That one. Raises UserError if there is none of that number, or it comes from another environment."""
        if not FIRST <= number < FIRST + len(self._shards):
            raise UserError(f"there is no episode {number}")
        if number not in self._opened:
            self._opened = {number: self._open(number)}
        return self._opened[number]

    def _open(self, number: int) -> Episode:
        shard = open_shard(self._shards[number - FIRST])
        if shard.attributes["env"] != self._label:
            raise UserError(f"{shard.path} comes from {shard.attributes['env']}, not {self._label}")
        return shard.episode(-1)
