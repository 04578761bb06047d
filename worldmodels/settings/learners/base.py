"""What every learner that trains an actor can be asked."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from worldmodels.settings.flags import setting
from worldmodels.settings.models.base import ModelSettings


@dataclass(frozen=True, kw_only=True)
class ActorSettings(ModelSettings):
    """An actor that acts, beside a critic that judges: their networks, and how long they learn."""

    SCALED: ClassVar[bool] = False
    """Whether an actor's features are scaled (acting/actor.py)."""

    updates: int = setting(10_000, most=10_000_000, free=True)
    """Updates of actor and critic."""
    units: int = setting(512, most=65_536)
    """Width of the layers of actor and critic."""
    layers: int = setting(2, most=100)
    """Hidden layers of each."""
    actions: Literal["auto", "numbers", "choices"] = setting("auto")
    """What the actor decides on: numbers in [-1, 1], or choices, of which it takes one: those that the environment's
    record lists (Doom's), else each of the action's numbers alone, as Discrete environments have them. auto: choices
    where the record lists them, else numbers."""
    save_every: int = setting(500, free=True)
    """Updates between checkpoints."""
    learning_rate: float = setting(3e-5)
    """Adam's step size."""
    critic_learning_rate: float = setting(0.0, zero=True)
    """Adam's step size of the critic, if it is another. A critic begins at 0, and what it says of a state is worth
    something to the actor only once it has come near to its true values. 0: as --learning-rate."""

    @property
    def rates(self) -> dict[str, float]:
        """Adam's step sizes."""
        return {"actor": self.learning_rate, "critic": self.critic_learning_rate or self.learning_rate}
