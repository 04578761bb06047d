"""Which V, M and learners of C there are, by name: what each can be asked, and where its code lies. torch is not needed
to know that.

Ours have short names. One of your own is named by its package and class (my_package:MyV); its package is imported only
if a person typed its name, never because a file says so.
"""

import dataclasses
import importlib
import inspect
import sys
from typing import Any, NamedTuple, get_type_hints

from worldmodels.core import plugins
from worldmodels.core.errors import UserError, nearest
from worldmodels.settings.learners.actor_critic import ActorCriticSettings
from worldmodels.settings.learners.base import ActorSettings
from worldmodels.settings.learners.ppo import PPOSettings
from worldmodels.settings.models.base import MemorySettings, ModelSettings
from worldmodels.settings.models.hrssm import HRSSMSettings
from worldmodels.settings.models.mdnrnn import MDNRNNSettings
from worldmodels.settings.models.recurrent import RecurrentSettings
from worldmodels.settings.models.rssm import RSSMSettings
from worldmodels.settings.models.vae import VAESettings

__all__ = [
    "OURS",
    "ActorCriticSettings",
    "ActorSettings",
    "HRSSMSettings",
    "MDNRNNSettings",
    "MemorySettings",
    "Model",
    "ModelSettings",
    "PPOSettings",
    "RSSMSettings",
    "RecurrentSettings",
    "VAESettings",
    "name_of",
    "named",
]


class Model(NamedTuple):
    """A V, M or learner that can be asked for."""

    stage: str  # the flag that asks for it: "vision", "memory" or "learner"
    settings: type[ModelSettings]
    code: str  # where its class is: module:name

    def load(self) -> Any:
        """Its class; torch is imported with it."""
        module, _, name = self.code.partition(":")
        return getattr(importlib.import_module(module), name)


OURS = {
    "vae": Model("vision", VAESettings, "worldmodels.models.vae:VAE"),
    "hrssm": Model("vision", HRSSMSettings, "worldmodels.models.hrssm:HRSSM"),
    "mdnrnn": Model("memory", MDNRNNSettings, "worldmodels.models.mdnrnn:MDNRNN"),
    "mdnrnn-pedals": Model("memory", MDNRNNSettings, "worldmodels.models.published:PedalMDNRNN"),
    "rssm": Model("memory", RSSMSettings, "worldmodels.models.recurrent:RSSMMemory"),
    "cma-es": Model("learner", ModelSettings, "worldmodels.evolution.cma_es:CMAES"),  # its flags are stage 4's own
    "actor-critic": Model("learner", ActorCriticSettings, "worldmodels.learners.actor_critic:ActorCritic"),
    "ppo": Model("learner", PPOSettings, "worldmodels.learners.ppo_dreams:DreamPPO"),
}


def named(name: str, stage: str) -> Model:
    """The V (stage "vision"), M ("memory") or learner ("learner") of this name.

    Args:
        name: of one of ours, or package:class of a V or M whose package this process uses.
        stage: which of these it has to be.

    Raises:
        UserError: if there is none, or its package was not typed.
    """
    ours = [known for known, model in OURS.items() if model.stage == stage]
    if name in ours:
        return OURS[name]
    if stage == "learner":
        raise UserError(f"--{stage} {name} is unknown; {nearest(name, ours)}")
    module, _, cls = name.partition(":")
    if not cls:
        raise UserError(f"--{stage} {name} is unknown; {nearest(name, ours)}; or one of your own: my_package:MyModel")
    plugins.refuse_untyped(module, name)
    plugins.use(module)
    found = getattr(sys.modules[module], cls, None)
    if found is None:
        raise UserError(f"--{stage} {name}: there is no {cls} in {module}")
    return Model(stage, _settings_of(found, name, stage), name)


def name_of(cls: type) -> str:
    """What a model's class is called in files and on the command line."""
    code = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, model in OURS.items() if model.code == code), code)


def _settings_of(cls: Any, name: str, stage: str) -> type[ModelSettings]:
    """What a class of the user's own takes as `settings`."""
    needed = MemorySettings if stage == "memory" else ModelSettings
    hints = get_type_hints(cls.__init__) if inspect.isclass(cls) else {}
    settings = hints.get("settings")
    if not (inspect.isclass(settings) and issubclass(settings, needed) and dataclasses.is_dataclass(settings)):
        raise UserError(
            f"--{stage} {name}: its __init__ must take `settings`, of a dataclass that is a {needed.__name__} "
            "(docs/add_a_model.md)"
        )
    return settings
