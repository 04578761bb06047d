"""Help: the text beneath a field of settings, as one paragraph wherever its source breaks lines."""

import dataclasses
import functools
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import MISSING, ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

HELP = ConstructorRegistry()
"""How tyro is to read our dataclasses. Its own way keeps the breaks of the source."""


@HELP.struct_rule
def _settings(info: StructTypeInfo) -> StructConstructorSpec | None:
    if not dataclasses.is_dataclass(info.type):
        return None
    hints = get_type_hints(info.type)
    fields = tuple(
        StructFieldSpec(
            name=field.name,
            type=_called(field.name, hints[field.name]),
            default=getattr(info.default, field.name, _default(field)),
            helptext=functools.partial(help_of, info.type, field.name),
        )
        for field in dataclasses.fields(info.type)
    )
    return StructConstructorSpec(instantiate=info.type, fields=fields)


def _called(name: str, hint: Any) -> Any:
    """The type of a field, with its flag's name where that is a word of Python's: `from_` is --from."""
    return Annotated[hint, tyro.conf.arg(name=name.rstrip("_"))] if name.endswith("_") else hint


def _default(field: dataclasses.Field[object]) -> object:
    return MISSING if field.default is dataclasses.MISSING else field.default


def help_of(kind: type, name: str) -> str:
    """The text beneath a field, in the class that declares it."""
    texts = (_texts(owner).get(name) for owner in kind.__mro__)
    return next((" ".join(text.split()) for text in texts if text), "")


@functools.cache
def _texts(owner: type) -> dict[str, str]:
    if owner is object:
        return {}
    read = docstring_parser.parse_from_object(owner)
    return {one.arg_name: one.description or "" for one in read.params}
