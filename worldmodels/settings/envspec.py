"""Which environment, in full: its name and what is done to it. Plain data: it travels to workers and into files."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from worldmodels.core.errors import UserError
from worldmodels.settings.environments import record_of

Distractor = Literal["none", "noise", "stills", "video", "dcs"]
Split = Literal["train", "test"]
Intensity = Literal["0.025", "0.05", "easy", "0.15", "medium", "hard", "0.4", "0.5"]
Part = Literal["camera", "colour", "background"]
PARTS: tuple[Part, ...] = ("camera", "colour", "background")


class Strength(NamedTuple):
    """How much the Distracting Control Suite distracts.

    Attributes:
        scale: of all ranges and speeds.
        videos: to choose an episode's background from; None for all.
    """

    scale: float
    videos: int | None


STRENGTHS: dict[Intensity, Strength] = {
    "0.025": Strength(0.025, 2),
    "0.05": Strength(0.05, 2),
    "easy": Strength(0.1, 4),
    "0.15": Strength(0.15, 6),
    "medium": Strength(0.2, 8),
    "hard": Strength(0.3, None),
    "0.4": Strength(0.4, None),
    "0.5": Strength(0.5, None),
}
"""The suite's own three by their names, and what DMControl-GB has between and beyond."""


AUTHORS_PIXELS = "authors' pixels"
"""In a label: that pictures are made as theirs."""


def usual_repeat(name: str) -> int:
    """How often an action is applied where nothing else is said. Raises UserError as `record_of`."""
    return record_of(name).action_repeat or 1


def to_agree(found: str, asked: str) -> str:
    """The flag by which what is asked becomes what was found, if their labels (EnvSpec.label) differ in nothing but how
    often an action is applied; else ""."""
    (told, repeat), (wanted, _) = _parted(found), _parted(asked)
    return f"--action-repeat {repeat}" if told == wanted else ""


def asked_by(label: str) -> str:
    """The flags that ask for what has this label (EnvSpec.label), for a person to type."""
    told, repeat = _parted(label)
    name, *besides = told.split(" + ")
    flags = [f"--env {name}"]
    if int(repeat) != usual_repeat(name):
        flags += [f"--action-repeat {repeat}"]
    if AUTHORS_PIXELS in besides:
        flags += ["--authors-pixels"]
    behind = [one for one in besides if one != AUTHORS_PIXELS]
    return " ".join(flags) + (" and the same --distractor" if behind else "")


def _parted(label: str) -> tuple[str, str]:
    """A label without how often an action is applied, and that."""
    match = re.fullmatch(r"(\S+) x(\d+)(.*)", label)
    return (match[1] + match[3], match[2]) if match else (label, "1")


@dataclass(frozen=True)
class EnvSpec:
    """An environment, and the background that it is shown in front of.

    Args:
        name: doom, carracing, dmc:<domain>-<task>, maniskill:<task>, or a Gymnasium id.
        action_repeat: how often each action is applied; rewards add up.
        distractor: what moves in the background.
        videos: folder of the clips, if that shows any.
        colour: of the background; else it is grey.
        split: which clips or stills: those for training, or those for tests.
        authors_pixels: pictures as the code of World Models' authors made them, for weights that they published.
        intensity: of the Distracting Control Suite, if the distractor is dcs.
        parts: what it distracts by.
        static: it does so alike from an episode's beginning to its end.
    """

    name: str
    action_repeat: int = 1
    distractor: Distractor = "none"
    videos: str = ""
    colour: bool = False
    split: Split = "train"
    authors_pixels: bool = False
    intensity: Intensity = "easy"
    parts: tuple[Part, ...] = PARTS
    static: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(part for part in PARTS if part in self.parts))  # a file has a list

    @property
    def strength(self) -> Strength:
        """What the Distracting Control Suite's intensity stands for."""
        return STRENGTHS[self.intensity]

    @property
    def shows_clips(self) -> bool:
        """Whether there are videos behind the actors."""
        return self.distractor == "video" or (self.distractor == "dcs" and "background" in self.parts)

    @property
    def kind(self) -> list[str]:
        """What distracts, in words; none if nothing does."""
        if self.distractor == "none":
            return []
        if self.distractor != "dcs":
            return [*(["colour"] if self.colour else []), self.distractor]
        parts = [] if self.parts == PARTS else [*self.parts]
        return ["dcs", self.intensity, *parts, *(["static"] if self.static else [])]

    @property
    def label(self) -> str:
        """What rollouts and models are told apart by; where the clips lie and which split they are of does not
        matter."""
        repeat = f" x{self.action_repeat}" if self.action_repeat > 1 else ""
        pixels = f" + {AUTHORS_PIXELS}" if self.authors_pixels else ""
        return self.name + repeat + pixels + (f" + {' '.join(self.kind)}" if self.kind else "")

    @property
    def slug(self) -> str:
        """The same for the name of a folder."""
        name = self.name.split(":")[-1].replace("/", "-").lower()
        repeat = "" if self.action_repeat == usual_repeat(self.name) else f"-x{self.action_repeat}"
        pixels = "-authors" if self.authors_pixels else ""
        return name + repeat + pixels + "".join(f"-{word}" for word in self.kind)

    def with_videos(self, folder: Path) -> "EnvSpec":
        """The same with its clips in `folder`, or where they were if none is given.

        Raises:
            UserError: if a folder is given, and nothing of it would be shown.
        """
        if folder == Path():
            return self
        if not self.shows_clips:
            shown = f"--distractor is {' '.join(self.kind) or 'none'}"
            raise UserError(f"--distractor-videos holds clips for --distractor video or dcs, but {shown}")
        return replace(self, videos=str(folder.resolve()))

    def tested(self) -> "EnvSpec":
        """The same in front of backgrounds that were never met in training."""
        return self if self.distractor == "none" else replace(self, split="test")

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self) | {"parts": [*self.parts]}
