"""Whether a V or M learns its episodes by heart: it then knows those better and better, and all others worse."""

from collections.abc import Sequence

import numpy as np

Line = dict[str, float]
RISE = 0.2  # of its least value, that a held-out loss must have risen by; less may be luck
SMALLEST = 0.02  # and at least so much, in the loss's own units
NEAR = 5  # lines of metrics that say what a loss was in training about then


def learnt_by_heart(who: str, history: Sequence[Line]) -> str:
    """What a person must know of it, by the loss that it shows in most; "" if none does.

    Args:
        who: V or M.
        history: lines of metrics in order of step. Some hold losses on held-out data, too: reward and held_out_reward.
    """
    checked = [line for line in history if any(name.startswith("held_out_") for name in line)]
    found: dict[str, tuple[float, Line]] = {}  # loss -> by how much it rose, and the line where it was least
    for name in [name[9:] for name in (checked[-1] if checked else {}) if name.startswith("held_out_")]:
        known = [line for line in checked if f"held_out_{name}" in line]
        least = min(known, key=lambda line: line[f"held_out_{name}"])
        rise = checked[-1][f"held_out_{name}"] - least[f"held_out_{name}"]
        size = abs(least[f"held_out_{name}"])
        if name != "loss" and rise > max(RISE * size, SMALLEST) and _falls(history, name, least["step"]):
            found[name] = rise / max(size, SMALLEST), least
    if not found:
        return ""
    name, (_, least) = max(found.items(), key=lambda item: item[1][0])
    held_out = f"held_out_{name}"
    return (
        f"{who} learns its episodes by heart: on others {name} was least after {least['step']:.0f} steps, "
        f"{least[held_out]:.3g}, and is {checked[-1][held_out]:.3g} now; collect more, or give fewer --steps"
    )


def _falls(history: Sequence[Line], name: str, step: float) -> bool:
    """Whether a loss is less by now, in training, than it was at that step."""
    then = [line[name] for line in history if line["step"] <= step and name in line][-NEAR:]
    now = [line[name] for line in history if name in line][-NEAR:]
    return bool(now) and bool(np.mean(now) < np.mean(then or now))
