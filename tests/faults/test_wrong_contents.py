"""A file that is whole, but holds what such a file never does, is told of in a line, and never used."""

import copy
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tests.conftest import World
from tests.faults.campaign import FileKind, campaign
from tests.faults.kinds import ABOUT, codes_content, codes_of, episodes, kinds, sealed
from worldmodels import models
from worldmodels.acting.controller_spec import ControllerSpec, Network, load_controller, save_controller
from worldmodels.core import checkpoint
from worldmodels.core.errors import UserError
from worldmodels.data import shard as shard_files
from worldmodels.data.embeddings import EMBEDDINGS
from worldmodels.data.shard import SHARD, open_shard
from worldmodels.evolution.cma_es import CMAES
from worldmodels.settings.envspec import EnvSpec

CHECKPOINTS = {"model": "memory", "state of training": "memory run", "state of a search": "controller run"}
CHECKPOINTS |= dict.fromkeys(("state of an actor", "state of PPO"), "controller run")
MAY_LACK = ("env", "mean_old_old", "restart_input", "reward", "mixtures", "termination", "termination_weight")
MAY_LACK += ("focus", "self_fed", "passes", "authors_pixels", "end_shift", "moments")  # written by later versions only
MAY_LACK += ("dropout", "members")
MAY_LACK += ("z", "h", "c", "first")  # of moments: whoever pairs M with V refuses them (tests/dreams/test_moments.py)
"""What a model's file may lack: its settings have defaults, and the first files held no env."""
UNUSED = ("param_groups", "_get_value", "_value")
"""What is there for the record only, or set anew before it is used."""


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a tree."""
    if above:
        yield above
    for name, part in node.items() if isinstance(node, dict) else ():
        yield from places(part, (*above, name))


def wrong(value: Any) -> list[Any]:
    """Things that are not what `value` is, of which nothing good can come."""
    if isinstance(value, torch.Tensor | np.ndarray):
        tensor = torch.as_tensor(value)
        spoilt = tensor.double() if tensor.is_floating_point() else tensor.float()
        made = [tensor.to(torch.int32), tensor[None], tensor.reshape(-1)[:0] if tensor.ndim else tensor[None]]
        if tensor.numel() and tensor.is_floating_point():
            nan = tensor.clone()
            nan.reshape(-1)[-1] = torch.nan
            made.append(nan)
        made.append(spoilt)
        return [part.numpy() if isinstance(value, np.ndarray) else part for part in made]
    if isinstance(value, bool | int | float):
        return ["a string", [], {"a": {"b": 1}}, torch.ones(3)] + ([10**30] if type(value) is int else [])
    return [torch.ones(2), 1.5, {"a": [[]]}] if not isinstance(value, dict) else [[], "a string", 5]


def at(tree: Any, way: tuple[Any, ...]) -> Any:
    for name in way:
        tree = tree[name]
    return tree


def wrong_trees(tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tree with each of its parts missing, or something else."""
    for way in places(tree):
        if any(name in UNUSED for name in way):
            continue
        if way[-1] not in MAY_LACK:
            made = copy.deepcopy(tree)
            del at(made, way[:-1])[way[-1]]
            yield f"{way} is missing", made
        for other in wrong(at(tree, way)):
            made = copy.deepcopy(tree)
            at(made, way[:-1])[way[-1]] = other
            yield f"{way} is {other!r:.60}", made
    yield "something is there that is unknown", tree | {"more": 1}


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_with_any_part_missing_or_wrong(world: World, tmp_path: Path, name: str, every: int) -> None:
    kind = kinds(world, tmp_path)[name]
    good = tmp_path / kind.file
    good.write_bytes(kind.content)
    tree = checkpoint.load(good, CHECKPOINTS[name])

    def files() -> Iterator[tuple[str, bytes]]:
        for how, made in itertools.islice(wrong_trees(tree), 0, None, every):
            checkpoint.save(tmp_path / "made", CHECKPOINTS[name], made)
            yield how, (tmp_path / "made").read_bytes()

    counts = campaign(kind, tmp_path / "campaign", files())
    print(f"\nwrong contents, {name} | {counts}")
    assert counts.failures == [] and counts.told > 50 / every


@pytest.fixture(params=[None, Network(4, 1, ((-1.0,), (0.5,)))], ids=["linear", "actor"])
def controlled(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run with a controller, and what its file holds."""
    for stage in ("vision", "memory"):
        (tmp_path / stage).symlink_to(world.run / stage)
    spec = ControllerSpec(EnvSpec("doom"), tmp_path, ("z", "c", "h"), 0, False, 30, "fp32", request.param)
    path = tmp_path / "controller/any/controller.safetensors"
    score = {"mean": 1.0, "std": float("nan"), "ci": float("nan"), "n": 1}
    about = {"generation": 3, "tau": 1.15, "sample_end": False, "seed": 0, "trained": score, "real": score}
    params = np.random.default_rng(0).normal(size=spec.controller(models.load(tmp_path)).num_params)
    save_controller(path, spec, params, about)
    return path, checkpoint.load(path, "controller")


def test_a_controller_with_any_part_missing_or_wrong(controlled: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, tree = controlled
    load_controller(path.parent)
    may_lack = {*dataclasses.asdict(EnvSpec("doom")), "seed", "trained", "real", "scaled"} - {"name"}
    tried = 0
    for how, made in wrong_trees(tree):
        if "is missing" in how and any(f"'{name}') is" in how for name in may_lack):
            continue
        checkpoint.save(path, "controller", made)
        tried += 1
        with pytest.raises(UserError, match=r"controller"):
            load_controller(path.parent)
            pytest.fail(how)
    assert tried > 50


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params": np.ones(1000, np.float32)}, "holds 1000 numbers, but its controller has"),
        ({"max_steps": 0}, "max_steps: a whole number from 1"),
        ({"params": np.full(24, np.nan, np.float32)}, "params: finite numbers only"),
        ({"inputs": ["z", "probs"]}, "--inputs probs is not among this model's features"),
        ({"precision": "\x1b[31m"}, "precision: one of"),
        ({"hidden_size": -4}, "hidden_size: a whole number from 0"),
    ],
)
def test_a_controller_that_cannot_be(controlled: tuple[Path, dict[str, Any]], change: dict, said: str) -> None:
    path, tree = controlled
    checkpoint.save(path, "controller", tree | change)
    with pytest.raises(UserError, match=said):
        load_controller(path.parent)


def test_a_search_of_another_size_is_told(world: World, tmp_path: Path) -> None:
    search, other = CMAES(6, 4, 0.1, 0), CMAES(7, 4, 0.1, 0)
    search.tell(np.arange(len(search.ask())))
    with pytest.raises(
        UserError, match=r"checkpoint\.safetensors holds what it should not: .*\(7\).*not float64 \(6,\)"
    ):
        other.load(search.state(), tmp_path / "checkpoint.safetensors")


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    """Fills a shard in which one dataset says something else."""

    def fill(file: h5py.File) -> None:
        shard_files._fill(file, episodes(), ABOUT)
        values = change(file[name][:])
        del file[name]
        file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)

    return fill


def told_of(**changes: Any) -> Callable[[h5py.File], None]:
    """Fills a shard that says something else of its episodes; None leaves it out."""

    def fill(file: h5py.File) -> None:
        shard_files._fill(file, episodes(), ABOUT)
        about = json.loads(file.attrs["about"]) | changes
        file.attrs["about"] = json.dumps({name: value for name, value in about.items() if value is not None})

    return fill


def put(index: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[index] = value
        return values

    return change


NESTED = "[" * 10**5


SHARDS = {
    "negative length": changed("length", put(1, -20)),
    "length 0": changed("length", put(1, 0)),
    "lengths whose sum overflows": changed("length", lambda v: np.full(3, 2**62)),
    "another length": changed("length", put(1, 21)),
    "too few lengths": changed("length", lambda v: v[:2]),
    "too few seeds": changed("seed", lambda v: v[:1]),
    "too few rewards": changed("reward", lambda v: v[:-1]),
    "too few actions": changed("action", lambda v: v[:-1]),
    "no episode": changed("length", lambda v: np.zeros(1, np.int64)),
    "lengths of 32 bits": changed("length", lambda v: v.astype(np.int32)),
    "rewards of 64 bits": changed("reward", lambda v: v.astype(np.float64)),
    "whole rewards": changed("reward", lambda v: v.astype(np.int32)),
    "reward nan": changed("reward", put(3, np.nan)),
    "action nan": changed("action", put(3, np.nan)),
    "action beyond 1": changed("action", put(3, 7)),
    "both ends": changed("truncated", lambda v: np.ones(3, bool)),
    "env missing": told_of(env=None),
    "env a number": told_of(env=5),
    "policy missing": told_of(policy=None),
    "returns of another number": told_of(returns=[1.0]),
    "returns nan": told_of(returns=[float("nan")] * 3),
    "max_steps 0": told_of(max_steps=0),
    "max_steps a string": told_of(max_steps="many"),
    "clips a dict": told_of(clips={}),
    "a long name": told_of(env="x" * 10_000),
    "about a list": lambda file: shard_files._fill(file, episodes(), ABOUT) or file.attrs.__setitem__("about", "[]"),
    "about no JSON": lambda file: shard_files._fill(file, episodes(), ABOUT) or file.attrs.__setitem__("about", "{"),
    "about nested": lambda file: shard_files._fill(file, episodes(), ABOUT) or file.attrs.__setitem__("about", NESTED),
    "about a number": lambda file: shard_files._fill(file, episodes(), ABOUT) or file.attrs.__setitem__("about", 5),
}


@pytest.mark.parametrize("name", SHARDS)
def test_a_shard_that_cannot_be(tmp_path: Path, name: str) -> None:
    path = tmp_path / "0.h5"
    path.write_bytes(sealed(SHARD, SHARDS[name]))
    with pytest.raises(UserError, match=r"0\.h5 (is damaged|holds what it should not)"):
        opened = open_shard(path)
        opened.read("reward")
        opened.read("action")


def test_a_shard_of_something_else_is_told_to_be_foreign(tmp_path: Path) -> None:
    (tmp_path / "0.h5").write_bytes(codes_content(sealed, tmp_path))
    with pytest.raises(UserError, match=r"0\.h5 is not a rollout shard"):
        open_shard(tmp_path / "0.h5")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda embed: embed[:-1], r"its codes are \(62, 8\), not 63 of 8 numbers"),
        (lambda embed: embed[:, :4], r"its codes are \(63, 4\), not 63 of 8 numbers"),
        (lambda embed: embed.astype(np.float32), r"embed is float32 \(63, 8\), which should be float16"),
        (lambda embed: embed.astype(np.int16), r"embed is int16"),
        (put(5, np.nan), "a code is not finite"),
    ],
)
def test_codes_that_cannot_be(tmp_path: Path, change: Callable, said: str) -> None:
    def fill(file: h5py.File) -> None:
        (tmp_path / "good").write_bytes(codes_content(sealed, tmp_path))
        with h5py.File(tmp_path / "good") as good:
            embed = change(good["embed"][:])
            file.attrs["rollouts"] = good.attrs["rollouts"]
        file.create_dataset("embed", data=embed, chunks=embed.shape, fletcher32=True)

    (tmp_path / "c").mkdir()
    path = tmp_path / "c/0.h5"
    path.write_bytes(sealed(EMBEDDINGS, fill))
    embeddings, of = codes_of(path)
    with pytest.raises(UserError, match=rf"0\.h5 is damaged \({said}"):
        embeddings.read(of, slice(None))


def test_m_that_does_not_fit_v_is_told(world: World, tmp_path: Path) -> None:
    (tmp_path / "vision").symlink_to(world.run / "vision")
    tree = checkpoint.load(world.run / "memory" / models.FILE, "memory")
    for starts in (tree["starts"][:, :3], tree["starts"][:0]):
        checkpoint.save(tmp_path / "memory" / models.FILE, "memory", tree | {"starts": starts})
        with pytest.raises(UserError, match=r"memory does not fit .*vision"):
            models.load(tmp_path)


def test_the_kinds_of_the_campaign_are_whole(world: World, tmp_path: Path) -> None:
    for number, kind in enumerate(kinds(world, tmp_path).values()):
        assert isinstance(kind, FileKind)
        counts = campaign(kind, tmp_path / str(number), iter([("nothing", kind.content)]))
        assert counts.tried == 0
