"""Checkpoints: tensors and plain data only.

A checkpoint is one safetensors file. Its tensors are the file's tensors; everything else (numbers, strings, lists,
dicts) is JSON in the file's header. Nothing is ever unpickled, so opening a stranger's checkpoint runs no code.

Its header holds the SHA-256 of the whole file, taken with zeros in the digest's place, so that no bit can change
unnoticed. FIRST_FORMAT, which is still read, has a checksum over tensors and tree that leaves out types and shapes;
what does not fit the schema of its kind is told all the same.
"""

import contextlib
import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from worldmodels.core import schema
from worldmodels.core.errors import UserError
from worldmodels.core.files import read_bytes, write_bytes

FIRST_FORMAT = "worldmodels-1"
FORMAT = "worldmodels-2"
NO_DIGEST = "0" * 64
LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it
TYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)


def versions() -> dict[str, str]:
    """The versions that a result may depend on, for the record."""
    names = ("worldmodels", "torch", "numpy", "cma", "gymnasium", "vizdoom", "dm_control", "mujoco")
    return {"python": platform.python_version()} | {name: version(name) for name in names} | _versions_of_extras()


@functools.cache  # what is absent is searched for everywhere
def _versions_of_extras() -> dict[str, str]:
    found = {}
    for name in ("mani_skill", "sapien"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def save(path: Path, kind: str, tree: Mapping[str, Any]) -> None:
    """Saves `tree` (nested dicts and lists of tensors, arrays, numbers, strings, None) as a checkpoint of `kind`."""
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_pack(tree, tensors))
    header = {"format": FORMAT, "kind": kind, "tree": skeleton, "versions": json.dumps(versions())}
    content = _in_order(to_bytes(tensors, header | {"sha256": NO_DIGEST}))
    write_bytes(path, _with_digest(content, NO_DIGEST, _digest(content)))


def load(path: Path, kind: str, holds: schema.Check = schema.anything) -> dict[str, Any]:
    """The tree that `save` wrote.

    Args:
        path: of the file.
        kind: that it must be of.
        holds: what its tree must be.

    Raises:
        UserError: if the file is absent, cannot be read, is damaged, foreign, of another kind, or holds anything else.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; run the stage that writes it first")
    content = read_bytes(path)
    try:
        header = _header(content)
        if header.get("format") not in (FIRST_FORMAT, FORMAT) or header.get("kind") != kind:
            found = header.get("kind", "of unknown origin")
            raise UserError(f"{path} should be a {kind} checkpoint ({FORMAT}); this one is {found}")
        if header["format"] == FORMAT and not _is_whole(content, header):
            raise UserError(f"{path} is damaged (its checksum is wrong); nothing was loaded")
        tensors = from_bytes(content)
        if odd := [str(value.dtype) for value in tensors.values() if value.dtype not in TYPES]:
            raise schema.Wrong(f"numbers are {odd[0]}")
        if header["format"] == FIRST_FORMAT and not _first_format_is_whole(tensors, header):
            raise UserError(f"{path} is damaged (its checksum is wrong); nothing was loaded")
        tree: dict[str, Any] = _unpack(schema.parse(header["tree"]), tensors)
    except (SafetensorError, schema.Wrong) as error:
        raise UserError(f"{path} is not a checkpoint of ours or is damaged ({error}); nothing was loaded") from error
    schema.check(tree, holds, path)
    return tree


def _header(content: bytes) -> dict[str, str]:
    """The strings in a safetensors file's header."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 0 < size <= min(LARGEST_HEADER, len(content) - 8):
        raise schema.Wrong("it has no header")
    try:
        text = content[8 : 8 + size].decode()
    except UnicodeDecodeError as error:
        raise schema.Wrong("its header is no text") from error
    whole = schema.parse(text)
    header: dict[str, str] = whole.get("__metadata__", {}) if isinstance(whole, dict) else {}
    schema.named(schema.text(LARGEST_HEADER))(header)
    return header


def _in_order(content: bytes) -> bytes:
    """The same file with its header in one order, so that what is equal is equal to the bit: safetensors draws lots."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _is_whole(content: bytes, header: Mapping[str, str]) -> bool:
    """Whether a file of FORMAT is as it was written, to the bit."""
    noted = header.get("sha256", "")
    return _mark(noted) in content and _digest(_with_digest(content, noted, NO_DIGEST)) == noted


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _with_digest(content: bytes, old: str, new: str) -> bytes:
    """The file with another digest in its place: the first, since quotation marks within strings are escaped."""
    return content.replace(_mark(old), _mark(new), 1)


def _mark(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()


def _first_format_is_whole(tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> bool:
    """Whether tensors and tree are as they were written; the very first files noted no checksum."""
    if not {"tree"} <= set(header) <= {"format", "kind", "tree", "versions", "checksum"}:
        return False
    found = fingerprint(dict(tensors) | {header["tree"]: torch.zeros(0)})
    return header.get("checksum", found) == found


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Twelve hex digits that change with any weight: codes and controllers are tied to a model by it."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def load_weights(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Loads `weights` into `module`. Raises UserError naming `path` as `check_weights` does."""
    check_weights(module, weights, path)
    module.load_state_dict(dict(weights))


def check_weights(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raises UserError naming `path` if a name, shape or type does not fit `module`, or a number is not finite."""
    schema.check(weights, schema.weights, path)
    asked = {name: (value.dtype, tuple(value.shape)) for name, value in module.state_dict().items()}
    found = {name: (value.dtype, tuple(value.shape)) for name, value in weights.items()}
    if odd := sorted(name for name in asked.keys() | found.keys() if asked.get(name) != found.get(name)):
        told = f"{odd[0]} is {_told(found.get(odd[0]))}, not {_told(asked.get(odd[0]))}"
        raise UserError(f"{path} holds weights of another shape ({told}); give the run it was trained in")


def _told(what: tuple[torch.dtype, tuple[int, ...]] | None) -> str:
    """A tensor's type and shape for people."""
    return f"{str(what[0]).removeprefix('torch.')} {what[1]}" if what else "absent"


def _pack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor | np.ndarray):
        name = f"t{len(tensors)}"
        # copies: safetensors refuses tensors that share memory, and a checkpoint of views is legitimate here
        if isinstance(node, np.ndarray):
            tensors[name] = torch.from_numpy(node.copy())
            return {"$array": name}
        tensors[name] = node.detach().cpu().contiguous().clone()
        return {"$tensor": name}
    if isinstance(node, Mapping):
        return {"$dict": [[key, _pack(value, tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_pack(value, tensors) for value in node]
    if isinstance(node, np.generic):
        return node.item()
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"a checkpoint holds tensors and plain data, not {type(node).__name__}")


def _unpack(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if len(node) != 1:
        raise schema.Wrong("its tree has an odd node")
    kind, value = next(iter(node.items()))
    if kind == "$dict":
        return {key: _unpack(part, tensors) for key, part in _pairs(value)}
    if kind not in ("$tensor", "$array") or not isinstance(value, str) or value not in tensors:
        raise schema.Wrong("its tree names a tensor that is not there")
    if kind == "$tensor":
        return tensors[value]
    if tensors[value].dtype == torch.bfloat16:
        raise schema.Wrong("its tree has an array of numbers that numpy lacks")
    return tensors[value].numpy()


def _pairs(value: Any) -> list[Any]:
    plain = (str, int, float, bool, type(None))
    pairs = value if isinstance(value, list) else [None]
    if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], plain) for pair in pairs):
        raise schema.Wrong("its tree has a dict without names")
    return pairs
