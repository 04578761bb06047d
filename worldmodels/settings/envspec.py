"""Which environment, in full: its name and what is done to it. Plain data: it travels to workers and into files."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from worldmodels.core.errors import UserError
from worldmodels.settings.environments import record_of

Distractor = Literal["none", "noise", "stills", "video"]
Split = Literal["train", "test"]


def usual_repeat(name: str) -> int:
    """How often an action is applied where nothing else is said. Raises UserError as `record_of`."""
    return record_of(name).action_repeat or 1


@dataclass(frozen=True)
class EnvSpec:
    """An environment, and the background that it is shown in front of.

    Args:
        name: doom, carracing, dmc:<domain>-<task>, or a Gymnasium id.
        action_repeat: how often each action is applied; rewards add up.
        distractor: what moves in the background.
        videos: folder of the clips, if that is video.
        colour: of the background; else it is grey.
        split: which clips or stills: those for training, or those for tests.
        authors_pixels: pictures as the code of World Models' authors made them, for weights that they published.
    """

    name: str
    action_repeat: int = 1
    distractor: Distractor = "none"
    videos: str = ""
    colour: bool = False
    split: Split = "train"
    authors_pixels: bool = False

    @property
    def label(self) -> str:
        """What rollouts and models are told apart by; where the clips lie and which split they are of does not
        matter."""
        kind = ("colour " if self.colour else "") + self.distractor
        repeat = f" x{self.action_repeat}" if self.action_repeat > 1 else ""
        pixels = " + authors' pixels" if self.authors_pixels else ""
        return self.name + repeat + pixels + (f" + {kind}" if self.distractor != "none" else "")

    @property
    def slug(self) -> str:
        """The same for the name of a folder."""
        name = self.name.split(":")[-1].replace("/", "-").lower()
        repeat = "" if self.action_repeat == usual_repeat(self.name) else f"-x{self.action_repeat}"
        kind = ("-colour" if self.colour else "") + f"-{self.distractor}"
        pixels = "-authors" if self.authors_pixels else ""
        return name + repeat + pixels + (kind if self.distractor != "none" else "")

    def with_videos(self, folder: Path) -> "EnvSpec":
        """The same with its clips in `folder`, or where they were if none is given.

        Raises:
            UserError: if a folder is given, and nothing of it would be shown.
        """
        if folder == Path():
            return self
        if self.distractor != "video":
            raise UserError(
                f"--distractor-videos holds clips for --distractor video, but --distractor is {self.distractor}"
            )
        return replace(self, videos=str(folder.resolve()))

    def tested(self) -> "EnvSpec":
        """The same in front of backgrounds that were never met in training."""
        return self if self.distractor == "none" else replace(self, split="test")

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)
