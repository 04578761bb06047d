"""What the authors of World Models published, as a run:  worldmodels import-published DIR OUT

Their files are known by what they hold, not by their names, which differ from copy to copy (CLASSIC 3.1).
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, save_controller
from worldmodels.core import checkpoint, files, schema
from worldmodels.core.errors import UserError
from worldmodels.core.report import paths, say
from worldmodels.models import published
from worldmodels.settings.commands import ImportConfig
from worldmodels.settings.environments import Published, records
from worldmodels.settings.envspec import EnvSpec

LARGEST = 256_000_000  # bytes of a file of theirs, and more
LONGEST = 100  # arrays in a file of theirs, and more
TESTED = 1024  # episodes that a controller's score is of


GAMES = {record.name: record.published for record in records() if record.published}
KINDS = {
    "vision": "V (vae.json)",
    "memory": "M (rnn.json)",
    "starts": "initial codes (initial_z.json)",
    "controller": "C (*.best.json)",
}
Found = dict[str, published.Arrays]
"""Of one game: what there is of KINDS."""


def import_published(config: ImportConfig) -> None:
    """Writes the run, and says what it holds and what it lacks.

    Raises:
        UserError: if there is nothing to import, or it is not clear what of it, or the run's folder is in use.
    """
    if config.out.is_dir() and any(config.out.iterdir()):
        raise UserError(f"{config.out} is not empty; name a folder that is, or that is not there yet")
    env, found = _of_one_game(config.source, config.env)
    game = GAMES[env]
    spec = EnvSpec(env, authors_pixels=True)
    seen = ""
    if "vision" in found:
        vision = published.vision(found["vision"])
        models.save_module(vision, config.out / "vision", "vision", env=spec.label, spec=spec.plain(), clips=[])
        seen = checkpoint.fingerprint(vision.state_dict())
    if "memory" in found:
        memory = published.memory(found["memory"], game)
        about = {"env": spec.label, "vision_fingerprint": seen, "starts": _starts(found, game)}
        models.save_module(memory, config.out / "memory", "memory", **about)
    if "controller" in found:
        known = models.fingerprint(config.out) if {"vision", "memory"} <= set(found) else ""
        _save_controller(config.out, spec, game, found["controller"], known)
    if "memory" not in found:
        found.pop("starts", None)  # which lie in M's file
    say(f"{spec.label}: " + ", ".join(KINDS[kind] for kind in KINDS if kind in found))
    if lack := _lack(found):
        say(f"note: {config.source} lacks {lack}")
    say(paths(run=config.out))


def _lack(found: Found) -> str:
    """What is not there, and what that means; in one line."""
    means = {
        "vision": "without V the others can be loaded, but nothing is seen or dreamt",
        "memory": "without M the rest can be loaded, and stage 3 can train one",
        "starts": "dreams begin with codes drawn from N(0, 1)",
        "controller": "stage 4 can evolve one",
    }
    lacking = [kind for kind in KINDS if kind not in found and (kind != "starts" or "memory" in found)]
    return f"{', '.join(KINDS[kind] for kind in lacking)}: {means[lacking[0]]}" if lacking else ""


def _starts(found: Found, game: Published) -> torch.Tensor:
    """Embeddings (S, 2Z) that dreams begin with; without any, the prior that V was trained towards."""
    if "starts" not in found:
        return torch.zeros(1, 2 * game.code_size)
    mu, logvar = found["starts"]
    return torch.from_numpy(np.concatenate([mu, logvar], 1).astype(np.float32))


def _save_controller(out: Path, spec: EnvSpec, game: Published, arrays: published.Arrays, model: str) -> None:
    params, mean = arrays
    controller = ControllerSpec(spec, out.resolve(), game.inputs, 0, not game.restart, game.max_steps, "auto")
    score = {"mean": float(mean), "std": float("nan"), "ci": float("nan"), "n": TESTED}
    about = {"generation": 0, "tau": game.tau, "sample_end": False, "trained": score}
    save_controller(out / "controller/published" / FILE, controller, params, about, model)


def _of_one_game(source: Path, asked: str) -> tuple[str, Found]:
    """The game, and its arrays by what they are. Raises UserError if it is not clear which are meant."""
    if asked and asked not in GAMES:
        raise UserError(f"--env {asked}: theirs are {' and '.join(GAMES)}")
    if not source.is_dir():
        raise UserError(f"{source} is no folder; name that which holds the published .json files")
    found: dict[str, dict[str, list[tuple[Path, published.Arrays]]]] = defaultdict(lambda: defaultdict(list))
    others = list[str]()
    for path in sorted(source.rglob("*.json")):
        try:
            env, kind, arrays = recognised(schema.parse(files.read_bytes(path, LARGEST)))
            found[env][kind].append((path, arrays))
        except schema.Wrong as wrong:
            others.append(f"{path.relative_to(source)}: {wrong}")
    if others:
        say(f"note: left out, for these are none of the published files: {'; '.join(others)}")
    games = sorted(found) if not asked else [asked] if asked in found else []
    if len(games) > 1:
        raise UserError(f"{source} holds files of {' and of '.join(games)}; add --env {' or --env '.join(games)}")
    if not games:
        raise UserError(f"{source} holds none of the published .json files{f' of {asked}' if asked else ''}")
    return games[0], {kind: _only_one(source, kind, those) for kind, those in found[games[0]].items()}


def _only_one(source: Path, kind: str, those: list[tuple[Path, published.Arrays]]) -> published.Arrays:
    """Of several, the one that their code calls the best. Raises UserError if there is no such."""
    best = [this for this in those if this[0].name.endswith(".best.json")] if len(those) > 1 else those
    if len(best) != 1:
        names = ", ".join(str(path.relative_to(source)) for path, _ in those)
        raise UserError(f"{source} holds several files for {KINDS[kind]}: {names}; leave one of them there")
    return best[0][1]


def recognised(tree: Any) -> tuple[str, str, published.Arrays]:
    """The game that a file is of, which of KINDS it is, and its numbers, to scale and in our order.

    Raises:
        Wrong: if it is none of theirs.
    """
    arrays = _arrays(tree)
    shapes = [array.shape for array in arrays]
    for env, game in GAMES.items():
        if shapes == published.vision_shapes(game.code_size):
            return env, "vision", _scaled(arrays)
        of_memory = published.memory_shapes(game)
        if sorted(shapes) == sorted(of_memory):  # each game has another order
            order = [shapes.index(shape) for shape in of_memory]
            return env, "memory", _scaled([arrays[at] for at in order])
        if len(shapes) == 2 and shapes[0] == shapes[1] == (len(arrays[0]), game.code_size) and len(arrays[0]):
            return env, "starts", _scaled(arrays)
        if shapes == [(game.params,), ()]:
            return env, "controller", arrays
    raise schema.Wrong("it has other shapes")


def _scaled(arrays: published.Arrays) -> published.Arrays:
    return [array / published.SCALE for array in arrays]


def _arrays(tree: Any) -> published.Arrays:
    """A list of nested lists of numbers, each as one array float64. Raises Wrong if it is anything else."""
    if not isinstance(tree, list) or not tree or len(tree) > LONGEST:
        raise schema.Wrong("it is no list of arrays")
    try:
        arrays = [np.asarray(part) for part in tree]
    except ValueError as error:  # lists of different lengths
        raise schema.Wrong("it is no list of arrays") from error
    if any(array.dtype.kind not in "if" for array in arrays):
        raise schema.Wrong("it holds more than numbers")
    if not all(np.isfinite(array).all() for array in arrays):
        raise schema.Wrong("it holds numbers that are not finite")
    return [array.astype(np.float64) for array in arrays]
