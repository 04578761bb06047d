"""Which environments there are, and all that is special about each: one record per environment, in a file of its own.

A package of a person's own registers its records in the same way, by one call (docs/add_an_env.md).
"""

from worldmodels.core import plugins
from worldmodels.core.errors import UserError
from worldmodels.settings.environments.carracing import CARRACING
from worldmodels.settings.environments.dmc import DMC
from worldmodels.settings.environments.doom import DOOM
from worldmodels.settings.environments.maniskill import MANISKILL
from worldmodels.settings.environments.other import OTHER
from worldmodels.settings.environments.record import PRESET_NAMES, STAGES, Environment, Presets, Published, Settings

__all__ = [
    "OTHER",
    "PRESET_NAMES",
    "STAGES",
    "Environment",
    "Presets",
    "Published",
    "Settings",
    "ask_for",
    "record_of",
    "records",
    "refuse_untyped",
    "register",
]

_RECORDS = {record.name: record for record in (DOOM, CARRACING, DMC, MANISKILL)}


def register(record: Environment) -> None:
    """Makes an environment known. The module that does so is imported by `--env module:name`, or by --plugin.

    Raises:
        UserError: if there is another record of that name.
    """
    if _RECORDS.setdefault(record.name, record) != record:
        raise UserError(f"there are two records of the environment {record.name}; call one of them something else")


def records() -> list[Environment]:
    """All that are registered, ours first."""
    return list(_RECORDS.values())


def ask_for(name: str) -> None:
    """Imports the module of an environment whose name a person typed (`module:name`), so that it can be made.

    Raises:
        UserError: if it cannot be imported.
    """
    module = _module_of(name)
    if module:
        try:
            plugins.use(module)
        except UserError as error:
            raise UserError(f"--env {name}: {error}") from error


def refuse_untyped(name: str, where: object = "") -> None:
    """Raises UserError if this environment is of a module that no person typed, as a name out of a file may be.

    Args:
        name: of the environment.
        where: the file or folder that holds it, if it is known.
    """
    module = _module_of(name)
    if module and name not in _RECORDS:
        plugins.refuse_untyped(module, name, where)


def record_of(name: str) -> Environment:
    """The record of the environment called `name`; one without its own has that of any environment.

    Raises:
        UserError: if it is of a module that no person typed.
    """
    refuse_untyped(name)
    return _RECORDS.get(name) or _family_of(name) or _RECORDS.get(name.split(":")[-1], OTHER)


def _family_of(name: str) -> Environment | None:
    return next((record for record in _RECORDS.values() if record.is_family and name.startswith(record.name)), None)


def _module_of(name: str) -> str:
    """What would be imported to make it; of a family's, only what stands behind the family's own name."""
    family = _family_of(name)
    return (name.removeprefix(family.name) if family else name).rpartition(":")[0]
