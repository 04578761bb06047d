"""What planning in the dream can be asked (dreams/planning.py)."""

from dataclasses import dataclass
from typing import Literal

from worldmodels.settings.flags import Only, names_of, setting

PLANNED = Only("--plan cem, icem or mppi", lambda asked: asked.plan != "none")
BY_ELITES = Only("--plan cem or icem", lambda asked: asked.plan in ("cem", "icem"))
BY_WEIGHTS = Only("--plan mppi", lambda asked: asked.plan == "mppi")


@dataclass(frozen=True, kw_only=True)
class ByPlan:
    """What all share that can act by planning in the dream. The defaults are to take less than 30 ms a decision on a
    core that multiplies bf16 in hardware, with M at Doom's size (docs/performance.md)."""

    plan: Literal["none", "cem", "icem", "mppi"] = setting("none")
    """Act by planning: before each action, try many sequences of actions in the dream, from what is seen now on, and do
    the first action of what served best. Nothing is trained. cem (cross-entropy method: a Gaussian closes in on the
    best), icem (the same with memory: the best are kept, and the very best is done), mppi (all count, the better the
    more), none."""
    plan_horizon: int = setting(48, most=10_000, only=PLANNED)
    """Steps that a plan looks ahead."""
    plan_candidates: int = setting(24, least=4, too_few="are too few to choose from", most=100_000, only=PLANNED)
    """Plans that are tried at a time."""
    plan_rollouts: int = setting(1, most=10_000, only=PLANNED)
    """Dreams that each plan is tried in. The same luck for all plans of a time, so that they differ by what they do."""
    plan_iterations: int = setting(1, most=1000, only=PLANNED)
    """Times that plans are tried before one acts, each around what served best until then. The next decision begins
    with the plan of the last, a step on, so that one may be enough."""
    plan_elites: float = setting(0.2, most=1.0, only=BY_ELITES)
    """Share of the candidates that the next are drawn around: the best, two at least."""
    plan_softness: float = setting(0.5, only=BY_WEIGHTS)
    """By how much a plan may be worse than the best and still count 1/e times as much, in standard deviations of what
    the candidates are worth."""
    plan_spread: float = setting(0.7, most=100.0, only=PLANNED)
    """Standard deviation of the candidates' actions around the plan; what then lies outside [-1, 1] is clipped."""
    plan_colour: float = setting(2.0, zero=True, most=10.0, only=PLANNED)
    """How long candidates hold to a direction: the power of their noise falls with frequency to this power. 0: every
    step has noise of its own (cem and mppi, as published)."""
    plan_tail: float = setting(100.0, zero=True, most=1e6, only=PLANNED)
    """Steps beyond the horizon that a plan which lives to see it is paid for, as well as it was on the way. It says how
    much dying costs; where no episode ends by itself it changes nothing."""
    plan_tau: float = setting(1.0, least=1e-9, most=1e9, only=PLANNED)
    """Temperature of the dreams that plans are tried in."""

    def planning(self) -> "ByPlan":
        """These settings alone, without whatever else a command is asked."""
        return ByPlan(**{name: getattr(self, name) for name in names_of(ByPlan)})
