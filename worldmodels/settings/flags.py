"""What there is to say of a flag beside its help. It stands at the field: `seed: int = setting(0, zero=True)`."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from worldmodels.core.errors import UserError, shortened

Value = TypeVar("Value")
LARGEST = 1_000_000_000  # that a whole number may be, where its flag says nothing


class Only(NamedTuple):
    """When a flag means anything.

    Args:
        add: what a person would have to type for that.
        holds: the settings that it is one of -> whether it does.
        said: the message if it does not.
    """

    add: str
    holds: Callable[[Any], bool]
    said: str = "{flag} does nothing without {add}; add that, or leave it out"


DREAMT = Only("--dream", lambda asked: asked.dream)
EVOLVED = Only("--learner cma-es", lambda asked: asked.learner == "cma-es")
EPISODIC = Only(
    "--learner cma-es, or ppo without --dream",
    lambda asked: asked.learner == "cma-es" or (asked.learner == "ppo" and not asked.dream),
)
OF_STAGE_4 = (DREAMT, EVOLVED, EPISODIC)
"""They are asked of the stage's settings, those of its learner too; what means nothing there tells no runs apart."""


@dataclasses.dataclass(frozen=True)
class About:
    """The facts about a flag; `setting` explains them."""

    zero: bool = False
    least: float = 0
    too_few: str = ""
    most: float | None = None
    free: bool = False
    leads: bool = False
    only: Only | None = None


def setting(
    default: Value,
    *,
    zero: bool = False,
    least: float = 0,
    too_few: str = "is too small",
    most: float | None = None,
    free: bool = False,
    leads: bool = False,
    only: Only | None = None,
) -> Value:
    """A field of a dataclass of settings. A number must be above 0, if nothing else is said.

    Args:
        default: its value, where nothing is given.
        zero: whether it may be 0.
        least, most: that it may be.
        too_few: what is wrong with less than `least`.
        free: whether it may change when a run is resumed: it says where the run computes, and how long, not what.
        leads: whether other defaults follow from it, so that it is the one to name where runs differ.
        only: when it means anything; absent, always.
    """
    about = About(zero, least, too_few, most, free, leads, only)
    return dataclasses.field(default=default, metadata={"about": about})


def about_all(config: Any) -> dict[str, About]:
    """What is said of the flags of a dataclass of settings, by the fields' names; not of its model's."""
    return {field.name: field.metadata.get("about", About()) for field in dataclasses.fields(config)}


def flag(name: str) -> str:
    """The flag of a field: `pop_size` is --pop-size, `from_` is --from."""
    return "--" + name.rstrip("_").replace("_", "-")


def names_of(kind: type) -> list[str]:
    """The fields of a dataclass of settings."""
    return [field.name for field in dataclasses.fields(kind)]


def default_of(kind: type, name: str) -> Any:
    """A field's default."""
    return next(field.default for field in dataclasses.fields(kind) if field.name == name)


def parts_of(config: Any) -> list[Any]:
    """The settings themselves, and those of the V or M that they hold."""
    return [part for part in (config, getattr(config, "model", None)) if part is not None]


def check_numbers(config: Any) -> None:
    """Raises UserError naming the flag whose number makes no sense."""
    for name, about in about_all(config).items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check(f"{flag(name)} {_said(number)}", number, about)


def _check(said: str, number: float, about: About) -> None:
    finite = isinstance(number, int) or math.isfinite(number)
    enough = number >= 0 if about.zero else number > 0
    if not finite or not enough:
        raise UserError(f"{said} makes no sense; give {'0 or more' if about.zero else 'more than 0'}")
    if number < about.least:
        raise UserError(f"{said} {about.too_few}; give at least {about.least:g}")
    most = about.most if about.most is not None else LARGEST if isinstance(number, int) else math.inf
    if number > most:
        raise UserError(f"{said} is more than can be; give at most {most:,}")


def _said(number: float) -> str:
    return shortened(str(number), 20) if isinstance(number, int) else f"{number:g}"
