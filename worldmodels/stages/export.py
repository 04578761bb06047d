"""The dream of a run as files that need no Python.  worldmodels export RUN --web DIR

Graphs are compared with torch before anything is written.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from worldmodels import models
from worldmodels.acting.actor import Actor
from worldmodels.acting.controller_spec import load_controller
from worldmodels.core.errors import UserError
from worldmodels.core.report import paths, say, table
from worldmodels.dreams.spaces import FPS
from worldmodels.envs import make_env
from worldmodels.models.base import State, WorldModel
from worldmodels.page.contents import controllers_of, dials, run_of
from worldmodels.settings.commands import ExportConfig
from worldmodels.settings.environments import refuse_untyped
from worldmodels.settings.envspec import EnvSpec
from worldmodels.web import folder
from worldmodels.web.beginnings import beginnings, packed
from worldmodels.web.families import Translated, acting, translated
from worldmodels.web.graphs import Graph, check_exportable, exported


def export(config: ExportConfig) -> None:
    """Writes the folders, and says what lies in them.

    Raises:
        UserError: if the run is not there or cannot be exported, a folder holds something else, a package is missing,
            or a graph differs from torch.
    """
    asked = {flag: path for flag, path in (("--web", config.web), ("--onnx", config.onnx)) if path != Path()}
    check_exportable()
    for flag, path in asked.items():
        folder.check_free(flag, path)
    if not config.run.is_dir():
        raise UserError(f"--run {config.run} is not there; name a run that holds a trained V and M")
    run = run_of(config.run)
    model = models.load(run, precision="fp32")
    _, about = models.load_module(run / "vision", "vision")
    env = EnvSpec(**about["spec"])
    refuse_untyped(env.name, run)
    states = beginnings(model, config.seed)
    parts = translated(model, states["starts"])
    controllers, params, actors = _controllers(config.run, run, model, states["starts"])
    parts = dataclasses.replace(parts, graphs=parts.graphs | actors)
    tensors = {f"{kind}.{name}": value for kind in states for name, value in packed(states[kind]).items()} | params
    manifest = _manifest(run.resolve().name, env, model, parts) | {
        "beginnings": {kind: len(each["z"]) for kind, each in states.items()},
        "controllers": controllers,
    }
    graphs = {f"{name}.onnx": exported(name, graph) for name, graph in parts.graphs.items()}
    written = {name: content for name, (content, _) in graphs.items()} | {folder.TENSORS: to_bytes(tensors)}
    sizes = [folder.write(path, manifest, written, flag == "--web") for flag, path in asked.items()]
    say(_told(sizes[0], {name: apart for name, (_, apart) in graphs.items()}))
    if model.members > 1:
        say(f"note: of the {model.members} members of M, this is the first one's dream")
    say(paths(**{flag.strip("-"): path for flag, path in asked.items()}))
    if config.web != Path():
        say(f"to look at it: python -m http.server --directory {config.web}, and http://localhost:8000/ in a browser")


def _controllers(
    named: Path, run: Path, model: WorldModel, states: State
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Graph]]:
    """Of the run, or the one that was named: how each acts, and, by their names in the files, the numbers of those that
    were evolved and the networks of those that were trained."""
    specs: dict[str, Any] = {}
    params: dict[str, Tensor] = {}
    graphs: dict[str, Graph] = {}
    for name, path in controllers_of(named, run).items():
        spec, numbers, _ = load_controller(path)
        controller = spec.controller(model)
        key = f"controller.{name}"
        specs[name] = {"inputs": list(spec.inputs)}
        if isinstance(controller, Actor):
            controller.given(torch.tensor(numbers)[None])
            graphs[key] = acting(controller, model.features(states, spec.inputs))
            specs[name] |= {"graph": key}
        else:
            params[key] = torch.tensor(numbers)
            specs[name] |= {"hidden_size": spec.hidden_size, "bias": spec.bias}
    return specs, params, graphs


def _manifest(run: str, env: EnvSpec, model: WorldModel, parts: Translated) -> dict[str, Any]:
    """What dream.json says of a dream; where it begins and who acts in it apart."""
    aspect, rate = _shown(env)
    return {
        "run": run,
        "env": env.label,
        "aspect": aspect,
        "rate": rate,
        **dials(env.name, model.action_size),
        "end_shift": model.end_shift,
        "family": parts.family,
        "memory": parts.facts,
        "graphs": list(parts.graphs),
    }


def _shown(env: EnvSpec) -> tuple[float, float]:
    """How wide real pictures are for their height, and how many there are a second. Whatever moves behind them does
    not matter to that, and clips may not lie here."""
    try:
        made = make_env(EnvSpec(env.name, env.action_repeat, authors_pixels=env.authors_pixels), shrink=False)
    except UserError as error:
        say(f"note: pictures are taken to be square, {FPS} a second, for the real environment is not here: {error}")
        return 1.0, FPS
    shape = made.observation_space.shape
    assert shape is not None  # Checked has seen to it
    rate = float(made.metadata.get("render_fps", FPS))
    made.close()
    return shape[1] / shape[0], rate


def _told(sizes: dict[str, int], apart: dict[str, float]) -> str:
    """What came out, as a table: networks, and with what lies beside them how much they are."""
    off = {name: f"{difference:.0e}" for name, difference in apart.items()}
    networks = [(name, sizes[name], off[name]) for name in apart]
    beginnings = (folder.TENSORS, sizes[folder.TENSORS], "")
    rest = sum(size for name, size in sizes.items() if name not in (*apart, folder.TENSORS))
    beside = ("page and runtime" if "index.html" in sizes else "what explains them", rest, "")
    rows = [*networks, beginnings, beside, ("all", sum(sizes.values()), "")]
    header = ("file", "MB", "off from torch by")
    return table("what came out", header, [(name, f"{size / 1e6:.2f}", told) for name, size, told in rows])
