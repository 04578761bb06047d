"""What a C begins with, if it is not to begin anew: the numbers of another."""

from pathlib import Path

import numpy as np

from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec, load_controller, policy_name
from worldmodels.core.errors import UserError
from worldmodels.core.report import say
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.evolution.learner import Learner
from worldmodels.settings.flags import flag
from worldmodels.settings.stages import ControllerConfig
from worldmodels.training.run import CHECKPOINT


def start(config: ControllerConfig, spec: ControllerSpec, learner: Learner) -> None:
    """Has a new learner begin with the numbers of the controller of --start-from, or of the best with --or-from.

    Raises:
        UserError: if that acts otherwise than this one is to, or none of several has played what is learnt from.
    """
    folder, asked = _best(config) if config.or_from else (config.start_from, "--start-from")
    given = f"{asked} {folder}"
    other, params, about = load_controller(folder, asked)
    if Path(about["folder"]) == config.folder.resolve():
        raise UserError(f"{given} is where this command writes; give another --name")
    if bool(other.actor) != bool(spec.actor):
        theirs, ours = ("trained", "evolved") if other.actor else ("evolved", "trained")
        raise UserError(f"{given} was {theirs}, and this C is to be {ours}; leave it out, or give another --learner")
    for name in ("inputs",) if spec.actor else ("inputs", "hidden_size", "bias"):
        theirs = getattr(other, name)
        if theirs != getattr(spec, name):
            typed = " ".join(theirs) if name == "inputs" else str(theirs)
            raise UserError(f"{given} has {flag(name)} {typed}; give that, too")
    if other.actor != spec.actor:
        differ = [f"{name} {value}" for name, value in vars(other.actor).items() if value != getattr(spec.actor, name)]
        raise UserError(
            f"{given} has another network ({', '.join(differ)}); give the --learner, --units, --layers and --actions "
            "that it was trained with"
        )
    numbers = len(learner.params)
    if len(params) != numbers:
        raise UserError(f"{given} has {len(params)} numbers, not {numbers}; leave it out")
    learner.start_from(params, Path(about["folder"]) / CHECKPOINT)


def _best(config: ControllerConfig) -> tuple[Path, str]:
    """Of several controllers that which was paid most, in mean over the episodes that it played; and the flag that
    named it."""
    rollouts = Rollouts(rollout_folder(config.data), config.spec.label)
    returns: dict[str, list[float]] = {}
    for shard in rollouts.shards:
        returns.setdefault(shard.attributes["policy"], []).extend(shard.attributes["returns"])
    named = dict.fromkeys(config.or_from, "--or-from") | {config.start_from: "--start-from"}
    means: dict[Path, float] = {}
    for folder, asked in named.items():
        spec, params, _ = load_controller(folder, asked)
        if played := returns.get(policy_name(params, models.fingerprint(spec.run))):
            means[folder] = float(np.mean(played))
    if not means:
        raise UserError(
            f"--or-from: none of these controllers has played an episode in {rollouts.folder}; leave it out, or give "
            "that --data where they have"
        )
    best = max(means, key=means.__getitem__)
    say(f"C begins with {best}: {means[best]:.1f} in the episodes that it played, the best of {len(means)}")
    return best, named[best]
