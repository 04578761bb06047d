"""Every kind of file that the program reads: a whole one, and its reader. Older forms, which it still reads, too."""

import dataclasses
import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.torch import save as to_bytes

from tests.conftest import World, make_episode
from tests.faults.campaign import FileKind
from tests.learners.worlds import learner, ppo
from worldmodels import models
from worldmodels.acting.controller_spec import FILE, ControllerSpec, Network, load_controller, save_controller
from worldmodels.core import checkpoint
from worldmodels.data import hdf5
from worldmodels.data import shard as shard_files
from worldmodels.data.embeddings import EMBEDDINGS, Embeddings
from worldmodels.data.embeddings import packed as packed_codes
from worldmodels.data.episode import Episode
from worldmodels.data.rollouts import Rollouts
from worldmodels.data.shard import SHARD, Shard, open_shard, pack_shard
from worldmodels.evolution.cma_es import CMAES
from worldmodels.learners.actor_critic import ActorCritic
from worldmodels.learners.ppo import PPO
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import MDNRNNSettings
from worldmodels.stages.learning import state_of
from worldmodels.training.run import Run
from worldmodels.training.train import fit

ABOUT = {
    "env": "doom", "policy": "varied", "seed": 0, "max_steps": 50, "min_steps": 0, "shard_size": 3, "noise": 0.0,
    "clips": [], "videos": "",
}  # fmt: skip


def episodes(count: int = 3, steps: int = 20) -> list[Episode]:
    """Episodes whose frames compress well, so that a good part of their file is what says where things lie."""
    rng, made = np.random.default_rng(0), []
    for number in range(count):
        obs = np.zeros((steps + 1, 64, 64, 3), np.uint8)
        obs[:, :8, :8] = rng.integers(1, 256, (steps + 1, 8, 8, 3))
        made.append(dataclasses.replace(make_episode(rng, steps), obs=obs, seed=number))
    return made


def shard() -> bytes:
    """A shard as stage 1 writes it."""
    return pack_shard(episodes(), ABOUT)


def unsealed(kind: hdf5.Kind, fill: Callable[[h5py.File], None]) -> bytes:
    """A file as it was written before there were seals."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["format"] = kind.format
        fill(file)
    return buffer.getvalue()


def sealed(kind: hdf5.Kind, fill: Callable[[h5py.File], None]) -> bytes:
    """A file with a good seal, whatever is in it: what a stranger can make as well as we."""
    return hdf5.pack(kind, fill)


def old_shard() -> bytes:
    """A shard as it was before there were seals."""
    return unsealed(SHARD, lambda file: shard_files._fill(file, episodes(), ABOUT))


def read_episodes(path: Path) -> Any:
    """The episodes of a shard alone: in an old one, what it says of them beside has no checksum."""
    return read_shard(path)[-1]


def read_shard(path: Path) -> Any:
    """All that stages take from a shard."""
    opened: Shard = open_shard(path)
    played = [opened.episode(index) for index in range(len(opened.lengths))]
    return [opened.attributes, opened.fingerprint, [dataclasses.asdict(one) for one in played]]


class AnyVision(torch.nn.Linear):
    """As much of a V as its codes ask for."""

    embed_size = 8


def a_vision() -> AnyVision:
    """A V whose weights do not matter."""
    torch.manual_seed(0)
    return AnyVision(2, 2)


def codes_of(path: Path) -> tuple[Embeddings, Shard]:
    """What reads the codes at `path`, which are those of `shard()` under `a_vision()`."""
    rollouts = path.parent / "rollouts"
    rollouts.mkdir(exist_ok=True)
    (rollouts / path.name).write_bytes(shard())
    embeddings = Embeddings(path.parent / "codes", Rollouts(rollouts, "doom"), a_vision())
    embeddings.folder.mkdir(parents=True, exist_ok=True)
    shutil.move(path, embeddings.folder / path.name)
    return embeddings, embeddings.rollouts.shards[0]


def read_codes(path: Path) -> Any:
    """All codes of a shard."""
    embeddings, of = codes_of(path)
    return embeddings.read(of, slice(None))


def codes_content(make: Callable[[Any, Callable[[h5py.File], None]], bytes], folder: Path) -> bytes:
    """A file of codes of `shard()`."""
    (folder / "s.h5").write_bytes(shard())
    opened = open_shard(folder / "s.h5")
    embed = np.random.default_rng(1).normal(size=(int(opened.obs_starts[-1]), 8)).astype(np.float16)
    return make(EMBEDDINGS, packed_codes(embed, opened))


def first_format(kind: str, tree: dict[str, Any]) -> bytes:
    """A checkpoint as it was before its checksum covered all of it."""
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(checkpoint._pack(tree, tensors))
    header = {"format": "worldmodels-1", "kind": kind, "tree": skeleton, "versions": json.dumps({"python": "3.11"})}
    header["checksum"] = checkpoint.fingerprint(tensors | {skeleton: torch.zeros(0)})
    return to_bytes(tensors, header)


def read_memory(path: Path) -> Any:
    """M as it is loaded, and what is told beside it."""
    module, extra = models.load_module(path.parent, "memory")
    return [module.state_dict(), extra]


def read_vision(path: Path) -> Any:
    """V as it is loaded, and what is told beside it."""
    module, extra = models.load_module(path.parent, "vision")
    return [module.state_dict(), extra]


def controller_content(world: World, folder: Path, actor: Network | None = None) -> bytes:
    """A controller of the tiny world's V and M."""
    spec = ControllerSpec(EnvSpec("doom"), world.run, ("z", "c", "h"), 0, False, 30, "fp32", actor)
    numbers = spec.controller(models.load(world.run, precision="fp32")).num_params
    about = {"generation": 1, "tau": 1.15, "sample_end": False}
    save_controller(folder / "made", spec, np.random.default_rng(0).normal(size=numbers), about)
    return (folder / "made").read_bytes()


def read_controller(world: World, path: Path) -> Any:
    """A controller as it is loaded: what it acts by, and its numbers."""
    folder = path.parent / "run/controller/any"
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("vision", "memory"):
        if not (path.parent / "run" / part).exists():
            (path.parent / "run" / part).symlink_to(world.run / part)
    shutil.move(path, folder / FILE)
    spec, params, about = load_controller(folder)
    return [spec.env.plain(), list(spec.inputs), spec.hidden_size, spec.bias, spec.max_steps, params, about["tau"]]


def read_memory_run(world: World, path: Path) -> Any:
    """M as it goes on from its last checkpoint."""
    for name in ("config.json", "metrics.jsonl", "checkpoint.safetensors"):
        if name != path.name:
            shutil.copy(world.run / "memory" / name, path.parent / name)
    built_on = json.loads((world.run / "memory/config.json").read_text())["built_on"]
    run = Run(path.parent, world.memory, "memory", **built_on)
    memory = MDNRNN(MDNRNNSettings(hidden_size=16, restart_input=True, reward="alive"), 8, 1)
    fit(memory, lambda skip: iter(()), dict, world.memory, run, torch.device("cpu"))
    run._locked.close()
    return memory.state_dict()


def search_state() -> dict[str, Any]:
    """What the checkpoint of a short search holds."""
    search = CMAES(6, 4, 0.1, 0)
    for _ in range(3):
        search.tell(np.arange(len(search.ask()), dtype=float))
    best = {"mean": 1.0, "params": search.mean, "generation": 2}
    return {"step": 3, "search": search.state(), "best": best, "chosen": best}


def read_search(path: Path) -> Any:
    """A search as it goes on from its last checkpoint, and what it asks next."""
    saved = checkpoint.load(path, "controller run", state_of(6))
    search = CMAES(6, 4, 0.1, 0)
    search.load(saved["search"], path)
    return [search.ask(), search.state(), saved["best"], saved["chosen"]]


def trained_state(made: ActorCritic | PPO) -> dict[str, Any]:
    """What the checkpoint of an actor holds that has learnt for a while."""
    for _ in range(3):
        made.update()
    best = {"mean": 1.0, "params": made.params, "generation": 2}
    return {"step": 3, "search": made.state(), "best": best, "chosen": best}


def read_trained(make: Callable[[], ActorCritic | PPO], path: Path) -> Any:
    """An actor as it goes on from its last checkpoint, and what it learns next."""
    made = make()
    saved = checkpoint.load(path, "controller run", state_of(len(made.params), "float32"))
    made.load(saved["search"], path)
    made.update()
    return [made.state(), saved["best"], saved["chosen"]]


def kinds(world: World, folder: Path) -> dict[str, FileKind]:
    """All kinds, by name."""
    memory_file, state_file = world.run / "memory" / models.FILE, world.run / "memory/checkpoint.safetensors"
    checkpoint.save(folder / "search", "controller run", search_state())
    checkpoint.save(folder / "actor", "controller run", trained_state(learner()))
    checkpoint.save(folder / "ppo", "controller run", trained_state(ppo()))
    network = Network(4, 1, ((-1.0,), (0.5,)))
    model = checkpoint.load(memory_file, "memory")
    run, old_search = functools.partial(read_memory_run, world), first_format("controller run", search_state())
    of_actor, of_ppo = (functools.partial(read_trained, make) for make in (learner, ppo))
    made = [
        FileKind("shard", "0.h5", shard(), read_shard),
        FileKind("codes", "0.h5", codes_content(sealed, folder), read_codes),
        FileKind("model", models.FILE, memory_file.read_bytes(), read_memory),
        FileKind("model V", models.FILE, (world.run / "vision" / models.FILE).read_bytes(), read_vision),
        FileKind("controller", FILE, controller_content(world, folder), functools.partial(read_controller, world)),
        FileKind("actor", FILE, controller_content(world, folder, network), functools.partial(read_controller, world)),
        FileKind("state of training", "checkpoint.safetensors", state_file.read_bytes(), run),
        FileKind("state of a search", "checkpoint.safetensors", (folder / "search").read_bytes(), read_search),
        FileKind("state of an actor", "checkpoint.safetensors", (folder / "actor").read_bytes(), of_actor),
        FileKind("state of PPO", "checkpoint.safetensors", (folder / "ppo").read_bytes(), of_ppo),
        FileKind("config.json", "config.json", (world.run / "memory/config.json").read_bytes(), run),
        FileKind("old shard", "0.h5", old_shard(), read_episodes),
        FileKind("old codes", "0.h5", codes_content(unsealed, folder), read_codes),
        FileKind("old model", models.FILE, first_format("memory", model), read_memory),
        FileKind("old state of a search", "checkpoint.safetensors", old_search, read_search),
    ]
    return {kind.name: kind for kind in made}
