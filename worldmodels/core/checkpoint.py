"""Checkpoints: tensors and plain data only.

A checkpoint is one safetensors file. Its tensors are the file's tensors; everything else (numbers, strings, lists,
dicts) is JSON in the file's header. Nothing is ever unpickled, so opening a stranger's checkpoint runs no code.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from worldmodels.core.errors import UserError
from worldmodels.core.files import atomic

FORMAT = "worldmodels-1"


def versions() -> dict[str, str]:
    """The versions that a result may depend on, for the record."""
    names = ("worldmodels", "torch", "numpy", "cma", "gymnasium", "vizdoom", "dm_control", "mujoco")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def save(path: Path, kind: str, tree: Mapping[str, Any]) -> None:
    """Saves `tree` (nested dicts and lists of tensors, arrays, numbers, strings, None) as a checkpoint of `kind`."""
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_pack(tree, tensors))
    header = {"format": FORMAT, "kind": kind, "tree": skeleton, "versions": json.dumps(versions())}
    header["checksum"] = fingerprint(tensors | {skeleton: torch.zeros(0)})
    with atomic(path) as aside:
        aside.write_bytes(to_bytes(tensors, header))


def load(path: Path, kind: str) -> dict[str, Any]:
    """The tree that `save` wrote. Raises UserError if `path` is absent, damaged, foreign, or of another kind."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that writes it first")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a checkpoint of ours or is damaged ({error}); nothing was loaded") from error
    if header.get("format") != FORMAT or header.get("kind") != kind:
        found = header.get("kind", "of unknown origin")
        raise UserError(f"{path} should be a {kind} checkpoint ({FORMAT}); this one is {found}")
    found = fingerprint(tensors | {header["tree"]: torch.zeros(0)})
    if header.get("checksum", found) != found:  # the first versions wrote none
        raise UserError(f"{path} is damaged (its checksum is wrong); nothing was loaded")
    return _unpack(json.loads(header["tree"]), tensors)


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Twelve hex digits that change with any weight: codes and controllers are tied to a model by it."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def load_weights(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Loads `weights` into `module`. Raises UserError naming `path` if a name or shape does not fit."""
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path} holds weights of another shape ({detail}); give the run it was trained in") from error


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
    if isinstance(node, dict):
        if "$tensor" in node:
            return tensors[node["$tensor"]]
        if "$array" in node:
            return tensors[node["$array"]].numpy()
        return {key: _unpack(value, tensors) for key, value in node["$dict"]}
    return node
