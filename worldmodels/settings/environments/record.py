"""What there is to say about an environment, apart from how it works."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worldmodels.core.errors import UserError, nearest

STAGES = ("collect", "vision", "memory", "controller")
PRESET_NAMES = ("tiny", "laptop", "paper")
KEYS = ("left", "right", "up", "down")
USUAL_KEYS = {"left": (-1.0,), "right": (1.0,), "down": (0.0, -1.0), "up": (0.0, 1.0)}
"""What keys add to an action where a record does not say it."""
Settings = Mapping[str, Any]
"""What flags are when none is given: pop_size for --pop-size."""
Presets = Mapping[str, Mapping[str, Settings]]
"""Stage (collect, vision, memory, controller), or run (all of them) -> preset (tiny, laptop, paper, or all) ->
settings."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the authors of World Models published of a task: how large, by which their files are known, and what for.

    Args:
        code_size: of V.
        action_size: numbers in an action.
        hidden_size: of M.
        restart: whether M is told when an episode begins, and tells when one ends.
        inputs: of C, in its order.
        params: numbers in C, which has a bias where M has no restart.
        max_steps: of an episode.
        tau: of the dreams that C was evolved in; None if it was evolved in reality.
    """

    code_size: int
    action_size: int
    hidden_size: int
    restart: bool
    inputs: tuple[str, ...]
    params: int
    max_steps: int
    tau: float | None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment's record. What a stage asks about an environment, it finds here.

    Args:
        name: what --env calls it; for one of Gymnasium's its id, without the module. A name that ends in a colon is a
            family's: "dmc:" is the record of dmc:walker-walk and of every other.
        make: what makes it, or "module:name" of that, which is imported when needed. It gives what make_env shows:
            pictures uint8 (H, W, 3), a new array at every step, and actions float32 (A,) in [-1, 1]. One of a family is
            first given the rest of its name. Without it, Gymnasium makes the environment by its id, and
            envs/images.py adapts it. Both are given, by name, `action_repeat`, `background`, `distraction`, `truth` and
            `authors_pixels`, each only where the record says that it can be asked for.
        presets: what differs from other environments (other.py); "all" holds for every preset, and gives way to it.
        random_policy: the authors' random policy here, by its name in acting/policies.py.
        baselines: the trivial policies that scores are shown beside: what to call them -> their names there. Without,
            doing nothing and `random_policy`.
        tau: usual temperature of its dreams.
        action_repeat: how often an action is usually applied (presets may say otherwise); None if it cannot be asked
            for.
        distractors: whether moving backgrounds can be put behind its actors. It is then given `background`, an
            envs.distract.Background, wherever one is asked for.
        dcs: whether the Distracting Control Suite can distract from it. It is then given `distraction`, an
            envs.dcs.Distraction, wherever that is asked for.
        rest: the action while no key is held, for who plays it on the page (worldmodels play).
        keys: what the arrow keys, called left, right, up and down, add to that while they are held. Without, left and
            right lead the first number of an action, up and down the second.
        choices: the actions that differ in what they do, if they are few; none, if each number counts.
        tells_truth: whether, given truth=True, it tells its true state as info["truth"], a dict of float32 (n,).
        published: what the authors of World Models published of it, if it is theirs. Given authors_pixels=True, it then
            shows what their code showed.

    Raises:
        UserError: if it has presets of a stage or size that there is not, keys that a page does not have, or is a
            family's and makes nothing.
    """

    name: str
    make: str | Callable[..., Any] = ""
    presets: Presets = field(default_factory=dict)
    random_policy: str = "spicy"
    baselines: Mapping[str, str] = field(default_factory=dict)
    tau: float = 1.0
    action_repeat: int | None = None
    distractors: bool = False
    dcs: bool = False
    rest: tuple[float, ...] = ()
    keys: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    choices: tuple[tuple[float, ...], ...] = ()
    tells_truth: bool = False
    published: Published | None = None

    def __post_init__(self) -> None:
        if not self.baselines:
            object.__setattr__(self, "baselines", {"no action": "still", "random": self.random_policy})
        if self.is_family and not self.make:
            raise UserError(f"the record of {self.name} is a family's and must say what makes one: make=")
        for stage, table in self.presets.items():
            self._check("presets of stage", stage, (*STAGES, "run"))
            for preset in table:
                self._check("presets of preset", preset, ("all", *PRESET_NAMES))
        for key in self.keys:
            self._check("the key", key, KEYS)

    @property
    def is_family(self) -> bool:
        """Whether this is the record of all environments whose names begin with its own."""
        return self.name.endswith(":")

    @property
    def title(self) -> str:
        """Its name for people."""
        return f"{self.name[:-1]} environments" if self.is_family else self.name

    def rest_of(self, size: int) -> list[float]:
        """The action, of `size` numbers, of a hand that holds no key."""
        return _filled(self.rest, size)

    def keys_of(self, size: int) -> dict[str, list[float]]:
        """What each key adds to that."""
        keys = self.keys or {name: added for name, added in USUAL_KEYS.items() if len(added) <= size}
        return {name: _filled(values, size) for name, values in keys.items()}

    def settings(self, stage: str, preset: str) -> dict[str, Any]:
        """What its presets say about a stage."""
        table = self.presets.get(stage, {})
        return {**table.get("all", {}), **table.get(preset, {})}

    def _check(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        if name not in known:
            raise UserError(f"the record of {self.name} has {kind} {name}; {nearest(name, list(known))}")


def _filled(values: Sequence[float], size: int) -> list[float]:
    """These numbers, as far as they go, then zeros."""
    return [*values[:size], *(0.0 for _ in range(size - len(values)))]
