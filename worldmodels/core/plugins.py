"""Modules of a person's own, which register environments or hold models.

To import a module is to run it. So one is imported only if a person typed its name: after --plugin, in --env, or in
code of theirs. A name that stands in a file is never enough.
"""

import functools
import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodels.core.errors import UserError

_typed: dict[str, None] = {}  # in order


def use(*modules: str) -> None:
    """Imports modules whose names a person typed; from now on, files may name what is in them.

    Raises:
        UserError: if there is no such module, or it raises while it is imported.
    """
    for module in modules:
        if module not in _typed:
            _import(module)
            _typed[module] = None


def typed() -> tuple[str, ...]:
    """The modules that `use` was called for: what another process must `use` to do as this one."""
    return tuple(_typed)


def refuse_untyped(module: str, name: str, where: object = "") -> None:
    """Raises UserError, which says what to type, unless a person typed `module`, or a package that it is of.

    Args:
        module: that would have to be imported.
        name: which asks for it.
        where: the file or folder that holds this name, if it is known.
    """
    if any(module == one or module.startswith(f"{one}.") for one in _typed):
        return
    told = f"{where} names {name}, which" if where else name
    raise UserError(f"{told} is code that is not ours, and runs only if you ask for it: add --plugin {module}")


def carried(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` for another process, where it first uses what this process uses."""
    return functools.partial(_with_modules, typed(), function)


def _with_modules(modules: tuple[str, ...], function: Callable[[Any], Any], task: Any) -> Any:
    use(*modules)
    return function(task)


def _import(module: str) -> None:
    if not all(part.isidentifier() for part in module.split(".")):
        raise UserError(f"{module!r} is not the name of a module; it is to be typed as after Python's import")
    try:
        importlib.import_module(module)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        what = f"there is no {error.name}" if error.name else str(error)
        raise UserError(
            f"{module} cannot be imported: {what}; install it, or give the folder that it lies in: PYTHONPATH=FOLDER"
        ) from error
    except Exception as error:  # it is theirs, and may raise anything: told, with the place
        raise UserError(f"{module} cannot be imported: {_told(error)}") from error


def _told(error: Exception) -> str:
    """An error and where it was raised, in one line."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(at.filename).name}:{at.lineno})"
