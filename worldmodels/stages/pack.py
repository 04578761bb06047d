"""Hands a run on: V, M and its controllers in half precision, with a card.  worldmodels pack --run RUN --out FOLDER

The folder is a run like any other. Rounded weights make another model, so its controllers are scored anew: what the
card says was measured on what lies beside it.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from worldmodels import models
from worldmodels.acting.controller_spec import FILE, controllers_of, load_controller, save_controller
from worldmodels.core import checkpoint, files, schema
from worldmodels.core.errors import UserError
from worldmodels.core.report import Summary, paths, say
from worldmodels.settings.commands import EvaluateConfig, PackConfig
from worldmodels.settings.shared import COMPUTES, LIES
from worldmodels.stages.evaluate import evaluate

CARD = "README.md"
SETTINGS = {"vision": "V", "memory": "M"}
HIDDEN = {"built_on", "name", "start_from", "or_from"} | COMPUTES | LIES


def pack(config: PackConfig) -> None:
    """Writes the folder, scores what is in it, and writes the card last."""
    models.load(config.run)  # V and M fit each other, or it ends here
    controllers = {folder.name: load_controller(folder) for folder in controllers_of(config.run)}
    made = {part: _settings(config.run / part) for part in (*SETTINGS, *(f"controller/{name}" for name in controllers))}
    if config.out.exists() and any(config.out.iterdir()) and not (config.out / CARD).exists():
        raise UserError(f"--out {config.out} holds something else than a packed run; give another folder")
    files.check_writable(config.out)
    (config.out / CARD).unlink(missing_ok=True)
    vision, about = models.load_module(config.run / "vision", "vision")
    memory, extra = models.load_module(config.run / "memory", "memory")
    _save(vision, config.out, "vision", about)
    rounded, _ = models.load_module(config.out / "vision", "vision")
    _save(memory, config.out, "memory", extra | {"vision_fingerprint": checkpoint.fingerprint(rounded.state_dict())})
    scores = {}
    for name, (spec, params, told) in controllers.items():
        folder = config.out / "controller" / name
        there = dataclasses.replace(spec, run=config.out.resolve())
        save_controller(folder / FILE, there, params, {key: told[key] for key in told if key != "folder"})
        scores[name] = _score(config, folder, told)
    files.write_text(config.out / CARD, _card(config, about, scores, made))
    say(paths(card=config.out / CARD, run=config.out))


def _save(module: models.Trainable[Any], out: Path, kind: str, extra: dict[str, Any]) -> None:
    """Writes a module with its weights in half precision; `extra` is all else that its file held."""
    state = module.state_dict()
    weights = {name: value.half() if value.dtype == torch.float32 else value for name, value in state.items()}
    checkpoint.save(out / kind / models.FILE, kind, extra | {"weights": weights})


def _score(config: PackConfig, folder: Path, told: dict[str, Any]) -> dict[str, Summary]:
    return evaluate(
        EvaluateConfig(
            run=folder,
            episodes=config.episodes,
            dream=told["tau"] is not None,
            video=False,
            seed=config.seed,
            workers=config.workers,
        )
    )


def _card(
    config: PackConfig,
    about: dict[str, Any],
    scores: dict[str, dict[str, Summary]],
    made: dict[str, str],
) -> str:
    """What it is, how good, how it was made."""
    lines = [
        f"# A world model of {about['env']}",
        "",
        "V, M and C in half precision, a run like any other:",
        "",
        f"    worldmodels evaluate --run {config.out}",
        "",
    ]
    for name, each in scores.items():
        lines += [f"## Scores of {name}", "", "| | return, mean ± std | 95 % of the mean | n |", "|---|---|---|---|"]
        lines += [f"| {who} | {score} | ± {score.ci:.1f} | {score.n} |" for who, score in each.items()]
        lines += [""]
    for part, settings in made.items():
        lines += [f"## How {SETTINGS.get(part, part.split('/')[-1])} was made", "", settings, ""]
    versions = ", ".join(f"{name} {number}" for name, number in checkpoint.versions().items())
    return "\n".join([*lines, "## Packed by", "", versions, ""])


def _settings(folder: Path) -> str:
    """What was asked for, as the run noted it; a packed run notes it on its card alone."""
    record = folder / "config.json"
    asked = schema.read(record, schema.named(schema.anything)) if record.exists() else {}
    told = [f"{name} {value}" for name, value in sorted(asked.items()) if name not in HIDDEN and value not in ("", [])]
    return ", ".join(told) or "nothing is noted here"
