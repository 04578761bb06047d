"""What a file may hold: a schema per kind of file, checked in one place and told in one line.

A schema is a tree of checks, declared beside what writes the file. What a check lets pass is what it was given: nothing
is converted, so that good files are read as they always were.

    CONTROLLER = fields(params=array("float32", None), tau=maybe(number(0)), inputs=each(one_of("z", "h")))
    schema.check(tree, CONTROLLER, path)
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch

from worldmodels.core.errors import UserError
from worldmodels.core.files import read_bytes

Check = Callable[[Any], None]
"""Raises Wrong if a value is not what it should be."""
DEEPEST = 100  # levels of nesting; ours have under 30
LARGEST = 2**62


class Wrong(Exception):
    """What is wrong with a value. Those that hold it add where it is."""


def check(value: Any, holds: Check, source: object) -> None:
    """Raises UserError naming `source` (a file, as a rule) if `value` is not what `holds` asks for."""
    try:
        holds(value)
    except Wrong as wrong:
        raise UserError(f"{source} holds what it should not: {wrong}; nothing was loaded") from wrong


def parse(text: str | bytes) -> Any:
    """JSON as plain data. Raises Wrong if it is none, or is nested more deeply than anything of ours."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"it is no JSON ({str(error)[:100]})") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [part for node in level for part in _parts(node)]
        if not level:
            return value
    raise Wrong(f"it is nested more than {DEEPEST} levels deep")


def read(path: Path, holds: Check, most: int = 1 << 20) -> Any:
    """What a JSON file of up to `most` bytes holds.

    Raises:
        UserError: if it cannot be read, is no JSON, or is not what `holds` asks for.
    """
    try:
        value = parse(read_bytes(path, most))
    except Wrong as wrong:
        raise UserError(f"{path} is damaged: {wrong}") from wrong
    check(value, holds, path)
    return value


def _parts(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else ()


def anything(value: Any) -> None:
    """Lets pass whatever it is."""


def whole(low: int = -LARGEST, high: int = LARGEST) -> Check:
    """An integer from `low` to `high`."""

    def holds(value: Any) -> None:
        _need(type(value) is int, "a whole number", value)
        _need(low <= value <= high, f"a whole number from {low} to {high}", value)

    return holds


def number(low: float = -math.inf, high: float = math.inf, finite: bool = True) -> Check:
    """An integer or a float from `low` to `high`."""

    def holds(value: Any) -> None:
        _need(type(value) in (int, float), "a number", value)
        _need(not finite or abs(value) <= float(np.finfo(float).max), "a finite number", value)
        _need(not finite or low <= value <= high, f"a number from {low:g} to {high:g}", value)

    return holds


def text(longest: int = 1000) -> Check:
    """A string."""

    def holds(value: Any) -> None:
        _need(isinstance(value, str), "a string", value)
        _need(len(value) <= longest, f"a string of at most {longest} characters", f"{len(value)} of them")

    return holds


def flag(value: Any) -> None:
    """True or false."""
    _need(isinstance(value, bool), "true or false", value)


def one_of(*known: object) -> Check:
    """One of some values."""

    def holds(value: Any) -> None:
        there = any(type(value) is type(one) and value == one for one in known)
        _need(there, f"one of {', '.join(map(str, known))}", value)

    return holds


def maybe(holds: Check) -> Check:
    """None, or what `holds` asks for."""
    return lambda value: None if value is None else holds(value)


def any_of(*checks: Check) -> Check:
    """What one of some checks asks for."""

    def holds(value: Any) -> None:
        said = []
        for one in checks:
            try:
                return one(value)
            except Wrong as wrong:
                said.append(str(wrong))
        raise Wrong(said[-1])

    return holds


def each(holds: Check, least: int = 0) -> Check:
    """A list whose parts are what `holds` asks for."""

    def all_hold(value: Any) -> None:
        _need(isinstance(value, list), "a list", value)
        _need(len(value) >= least, f"a list of {least} parts or more", f"one of {len(value)}")
        for index, part in enumerate(value):
            _at(index, holds, part)

    return all_hold


def named(holds: Check, key: type = str) -> Check:
    """A dict from names (or what else `key` is) to what `holds` asks for."""

    def all_hold(value: Any) -> None:
        _need(isinstance(value, dict), "a dict", value)
        for name, part in value.items():
            _need(type(name) is key, f"a name that is a {key.__name__}", name)
            _at(name, holds, part)

    return all_hold


def fields(_optional: Mapping[str, Check] | None = None, _others: Check | None = None, **required: Check) -> Check:
    """A dict with each of some names, perhaps with `_optional` ones, and with others only if they are `_others`."""
    optional = _optional or {}

    def all_hold(value: Any) -> None:
        _need(isinstance(value, dict), "a dict", value)
        for name in required:
            if name not in value:
                raise Wrong(f"{name} is missing")
        for name, part in value.items():
            holds = required.get(name) or optional.get(name) or _others
            if holds is None or not isinstance(name, str):
                raise Wrong(f"{_short(name)} is unknown")
            _at(name, holds, part)

    return all_hold


def array(dtype: str, *shape: int | None, finite: bool = True) -> Check:
    """A numpy array of a type and shape, None where any size will do; finite, if its numbers are floats."""
    return _numbers(np.ndarray, dtype, shape, finite)


def tensor(dtype: str, *shape: int | None, finite: bool = True) -> Check:
    """The same of a torch tensor."""
    return _numbers(torch.Tensor, dtype, shape, finite)


def weights(value: Any) -> None:
    """A dict from names to tensors of any type and shape, with finite numbers: those of a module check its shapes."""

    def holds(part: Any) -> None:
        _need(isinstance(part, torch.Tensor), "a tensor", part)
        _need(_all_finite(part), "finite numbers only", "one that is not")

    named(holds)(value)


def of(settings: type) -> dict[str, Check]:
    """What each field of a dataclass of settings may be, by its type."""
    hints = get_type_hints(settings).items()
    return {name: _of_type(hint) for name, hint in hints if get_origin(hint) is not ClassVar}


def _of_type(hint: Any) -> Check:
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    checks = {int: whole(0, 2**31), float: number(-1e30, 1e30), bool: flag, str: text()}
    return checks.get(hint, anything)


def like(example: Any, later: Mapping[str, Check] | None = None) -> Check:
    """Whatever has the form of `example`: the same names, types, and shapes; finite wherever the example is.

    Lists of numbers may have another length, and numbers may be None, or whole where the example's are not. Dicts may
    have the names of `later`, too.
    """
    if isinstance(example, dict):
        # names are not arguments: one may be called like a parameter
        return _like_dict({name: like(part, later) for name, part in example.items()}, later or {})
    if isinstance(example, np.ndarray):
        return array(str(example.dtype), *example.shape, finite=_all_finite(example))
    if isinstance(example, list):
        return each(maybe(_plain))
    if isinstance(example, float):
        return maybe(lambda value: _plain(value, math.isfinite(example)))
    return maybe(lambda value: _plain(value, low=-LARGEST, high=LARGEST))


def _like_dict(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    return fields(optional, **required)


def _plain(value: Any, finite: bool = True, low: float = -math.inf, high: float = math.inf) -> None:
    if not isinstance(value, bool):
        number(low, high, finite)(value)


def _numbers(kind: type, dtype: str, shape: tuple[int | None, ...], finite: bool) -> Check:
    asked = f"{dtype} ({', '.join('any' if size is None else str(size) for size in shape)})"

    def holds(value: Any) -> None:
        _need(isinstance(value, kind), f"numbers, {asked}", value)
        found = str(value.dtype).removeprefix("torch.")
        fits = len(shape) == value.ndim and all(a in (None, b) for a, b in zip(shape, value.shape, strict=True))
        _need(fits and found == dtype, f"numbers, {asked}", f"{found} {tuple(value.shape)}")
        _need(not finite or _all_finite(value), "finite numbers only", "one that is not")

    return holds


def _all_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all())
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())


def _at(name: object, holds: Check, part: Any) -> None:
    try:
        holds(part)
    except Wrong as wrong:
        raise Wrong(f"{_short(name)}: {wrong}") from None


def _need(fulfilled: bool, asked: str, found: object) -> None:
    if not fulfilled:
        raise Wrong(f"{asked} should be there, not {_short(found)}")


def _short(value: object) -> str:
    """A value for people, however large it is."""
    if isinstance(value, dict | list | torch.Tensor | np.ndarray):
        return f"a {type(value).__name__}"
    said = str(value) if not isinstance(value, int) or abs(value) < LARGEST else "a huge number"
    return said if len(said) <= 60 else f"{said[:57]}..."
