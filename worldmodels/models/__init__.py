"""V and M are saved apart; here they are opened again, and paired into a WorldModel.

A run folder holds vision/model.safetensors and memory/model.safetensors. Each rebuilds itself: what was saved with
the weights is the model's name and its constructor's arguments. A name that is not ours is code of the user's own, and
that is never imported because a file says so (settings/models/).
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor, nn

from worldmodels.core import checkpoint, schema
from worldmodels.core.device import product_dtype, resolved
from worldmodels.core.errors import UserError
from worldmodels.models.base import Memory, State, Trainable, Vision, WorldModel
from worldmodels.settings.envspec import PARTS, STRENGTHS, Distractor, to_agree
from worldmodels.settings.models import OURS, named
from worldmodels.settings.shared import usual
from worldmodels.settings.stages import MemoryConfig

__all__ = [
    "FILE",
    "FILES",
    "Memory",
    "Trainable",
    "Vision",
    "WorldModel",
    "cached",
    "class_of",
    "fingerprint",
    "load",
    "load_module",
    "pair",
    "save_module",
    "settled",
]

KINDS: dict[str, Any] = {"vision": Vision, "memory": Memory}
STAGES = {"vision": "02_train_vision", "memory": "03_train_memory"}
FILE = "model.safetensors"
FILES = (f"vision/{FILE}", f"memory/{FILE}")
"""What of a run folder `load` reads."""


SPEC = schema.fields(
    {
        "action_repeat": schema.whole(1, 1000),
        "distractor": schema.one_of(*get_args(Distractor)),
        "videos": schema.text(4096),
        "colour": schema.flag,
        "split": schema.one_of("train", "test"),
        "authors_pixels": schema.flag,
        "intensity": schema.one_of(*STRENGTHS),
        "parts": schema.each(schema.one_of(*PARTS), least=1),
        "static": schema.flag,
    },
    name=schema.text(200),
)
"""An EnvSpec as plain data."""
SIZE = schema.whole(0, 65536)
RANGE = schema.each(schema.number(-1e30, 1e30), least=2)
PLAIN = schema.any_of(schema.flag, schema.text(), schema.number(-1e30, 1e30))
DATA = {
    **dict.fromkeys(("code_size", "embed_size", "action_size"), SIZE),
    **dict.fromkeys(("reward_range", "usual_rewards"), RANGE),
}
"""What a model's constructor takes beside its settings, from the data or from V."""
HOLDS = {
    "vision": schema.fields(
        family=schema.text(200),
        config=schema.named(schema.anything),  # its class says what it has: _built
        weights=schema.weights,
        env=schema.text(),
        spec=SPEC,
        clips=schema.each(schema.text()),
    ),
    "memory": schema.fields(
        {
            "env": schema.text(),
            "moments": schema.named(schema.tensor("float16", None, None)),
            "end_shift": schema.number(-100, 100),
        },
        family=schema.text(200),
        config=schema.named(schema.anything),  # its class says what it has: _built
        weights=schema.weights,
        vision_fingerprint=schema.text(100),
        starts=schema.tensor("float32", None, None),
    ),
}
"""What a model's file holds, by its kind."""


@overload
def class_of(name: str, kind: Literal["vision"]) -> type[Vision[Any]]: ...


@overload
def class_of(name: str, kind: Literal["memory"]) -> type[Memory[Any]]: ...


@overload
def class_of(name: str, kind: str) -> type[Trainable[Any]]: ...


def class_of(name: str, kind: str) -> type[Trainable[Any]]:
    """The class of the V ("vision") or M ("memory") of this name.

    Raises:
        UserError: if there is none, or it is of a package of the user's own that was not typed.
    """
    found: type[Trainable[Any]] = named(name, kind).load()
    needed = KINDS[kind]
    if not issubclass(found, needed):
        raise UserError(f"--{kind} {name} is no {needed.__name__} of worldmodels.models.base (docs/add_a_model.md)")
    return found


def save_module(module: Trainable[Any], folder: Path, kind: str, **extra: object) -> None:
    """Saves V ("vision") or M ("memory") to `folder`, with whatever else belongs to it."""
    tree = {"family": module.family, "config": module.config, "weights": module.state_dict()}
    checkpoint.save(folder / FILE, kind, tree | extra)


@overload
def load_module(folder: Path, kind: Literal["vision"]) -> tuple[Vision[Any], dict[str, Any]]: ...


@overload
def load_module(folder: Path, kind: Literal["memory"]) -> tuple[Memory[Any], dict[str, Any]]: ...


@overload
def load_module(folder: Path, kind: str) -> tuple[Trainable[Any], dict[str, Any]]: ...


def load_module(folder: Path, kind: str) -> tuple[Any, dict[str, Any]]:
    """V or M as `save_module` saved it, on the CPU, with what else was saved with it.

    Raises:
        UserError: if the file is absent, damaged, of another kind or shape, or holds a model of the user's own whose
            package was not typed.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist; run pipelines/{STAGES[kind]}.py first")
    tree = checkpoint.load(path, kind)
    if kind == "vision" and not {"spec", "clips"} <= set(tree):
        raise UserError(f"{path} was saved by another version; run stage 2 again with --fresh")
    schema.check(tree, HOLDS[kind], path)
    weights = _whole(tree.pop("weights"))
    with torch.device("meta"):  # which takes no memory, so that no file can ask for more than its own weights take
        sizes = _built(tree, kind, path)
    checkpoint.check_weights(sizes, weights, path)
    module = _built(tree, kind, path)
    checkpoint.load_weights(module, weights, path)
    return module.eval(), tree


def _whole(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in single precision, in which models compute and are trained; those to be handed on are kept in half."""
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in weights.items()}


def _built(tree: dict[str, Any], kind: str, path: Path) -> Any:
    """The module that a file tells of, untrained."""
    family = tree["family"]
    if ":" not in family and family not in OURS:
        known = ", ".join(name for name, ours in OURS.items() if ours.stage == kind)
        raise UserError(f"{path} holds a {family}, which this version does not know ({known})")
    try:
        cls = class_of(family, kind)
        settings = named(family, kind).settings
        asked = schema.fields(DATA | schema.of(settings), schema.any_of(PLAIN, schema.each(PLAIN)))
        schema.check(tree["config"], asked, "config")
        return cls.from_config(settings, tree["config"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever the parts of a model make of settings that cannot be: it is told
        raise UserError(f"{path} was saved by another version or never ({error})") from error


def load(
    run: Path | str, device: torch.device | None = None, env: str | None = None, precision: str = "auto"
) -> WorldModel:
    """The world model in a run folder, ready to act and dream. To train V or M, or to use one alone: `load_module`.

    Args:
        run: holds vision/ and memory/.
        device: where to; None is the CPU.
        env: the environment that it must have been trained in; None takes any.
        precision: of matrix products: bf16, fp32, or auto, which is bf16 where the device is fast at it.

    Raises:
        UserError: if V or M is missing or damaged, belongs to another environment, or M to another V.
    """
    run = Path(run)
    vision, about = load_module(run / "vision", "vision")
    memory, extra = load_module(run / "memory", "memory")
    if env not in (None, about["env"]):
        agreeing = to_agree(about["env"], str(env))
        wanted = f"{agreeing} --run {run}, or another" if agreeing else "that, or another --run"
        raise UserError(f"{run} was trained in {about['env']}, not in {env}; give {wanted}")
    expected = extra["vision_fingerprint"]
    found = checkpoint.fingerprint(vision.state_dict())
    if expected != found:
        raise UserError(f"{run}/memory was trained on codes of V {expected}, but {run}/vision is {found}; run stage 3")
    starts: Tensor = extra["starts"]
    asked = (vision.code_size, vision.embed_size)
    sizes = (memory.code_size, extra["config"].get("embed_size", vision.embed_size))
    if sizes != asked or not len(starts) or starts.shape[1] != vision.embed_size:
        raise UserError(f"{run}/memory does not fit {run}/vision, whose codes are of another size; run stage 3")
    model = pair(vision, memory, starts, device, precision)
    model.moments = _moments(model, extra.get("moments", {}), run)
    model.end_shift = extra.get("end_shift", 0.0)
    return model


def _moments(model: WorldModel, kept: dict[str, Tensor], run: Path) -> State:
    """Moments of real episodes as `model` has its states. Raises UserError if they are another's."""
    if not kept:
        return {}
    like = model.initial(1)
    count = len(next(iter(kept.values())))
    if {name: value.shape for name, value in kept.items()} != {name: (count, *like[name].shape[1:]) for name in like}:
        raise UserError(f"{run}/memory holds moments of another model; run stage 3 again with --fresh")
    return {name: kept[name].to(value.device, value.dtype) for name, value in like.items()}


@functools.lru_cache(maxsize=2)
def cached(run: Path, version: str, precision: str) -> WorldModel:
    """The world model of a run, kept by this process. `version` is its fingerprint.

    Raises:
        UserError: if the run holds another by now: those who asked would mix the two.
    """
    if fingerprint(run) != version:
        raise UserError(f"{run} holds another V or M than when this began; begin again")
    return load(run, precision=precision)


def settled(config: MemoryConfig, vision: Vision[Any]) -> MemoryConfig:
    """Stage 3's settings as they will be on codes of `vision`: an M may go on from what V has learnt.

    Raises:
        UserError: if what was asked for cannot be.
    """
    by_preset = usual(MemoryConfig, config.env, config.preset, config.memory).model
    model = class_of(config.memory, "memory").settled(config.model, by_preset, vision)
    return dataclasses.replace(config, model=model)


def pair(
    vision: Vision[Any],
    memory: Memory[Any],
    starts: Tensor,
    device: torch.device | None = None,
    precision: str = "auto",
) -> WorldModel:
    """V and M as one world model, ready to act and dream; `starts` (S, E) are embeddings that dreams begin with.

    V and M are taken over: without gradients, and with the weights of their matrix products in `precision`.
    """
    device = device or torch.device("cpu")
    precision = resolved(precision, device)
    model = memory.paired(vision, starts, precision)
    # convolutions laid out as pictures are: few at a time are seen in half the time (training many takes longer)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):  # once, instead of at every step
            module.weight.data = module.weight.to(product_dtype(device, precision))
    return model


def fingerprint(run: Path) -> str:
    """What the world model in a run folder is known by.

    It changes with any weight of V or M, and with where dreams begin.
    """
    vision, _ = load_module(run / "vision", "vision")
    memory, extra = load_module(run / "memory", "memory")
    begins = {"starts": extra["starts"]} | {
        f"moments {name}": value for name, value in extra.get("moments", {}).items()
    }
    parts = (vision.state_dict(), memory.state_dict() | begins)
    return "-".join(map(checkpoint.fingerprint, parts))
