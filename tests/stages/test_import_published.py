import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.test_published import FILES, drawn, theirs
from worldmodels import models
from worldmodels.acting.agents import ModelAgent
from worldmodels.acting.controller_spec import FILE, load_controller
from worldmodels.acting.rollout import rollout
from worldmodels.core import checkpoint
from worldmodels.core.errors import UserError
from worldmodels.envs import make_env
from worldmodels.models import published
from worldmodels.settings.command_line import parse
from worldmodels.settings.commands import ImportConfig
from worldmodels.settings.envspec import EnvSpec
from worldmodels.stages.import_published import GAMES, import_published


def run(*words: str) -> None:
    import_published(parse(ImportConfig, list(words)))


def plain(arrays: list[np.ndarray]) -> Any:
    """As their files have weights."""
    return [np.round(array * 10_000).astype(int).tolist() for array in arrays]


def write(folder: Path, env: str, kinds: str = "vmzc") -> dict[str, list[np.ndarray]]:
    """Random files of one game, as their repository has them; what is in them."""
    game = GAMES[env]
    m = drawn(published.memory_shapes(game), 0.1)
    held = {
        "v": drawn(published.vision_shapes(game.code_size)),
        "m": m if env == "doom" else [*m[2:], *m[:2]],  # the car's output was made before its cell
        "z": drawn([(7, game.code_size), (7, game.code_size)], 1.0),
        "c": drawn([(game.params,)], 0.1),
    }
    names = {
        "v": "vae/vae.json",
        "m": "rnn/rnn.json",
        "z": "initial_z/initial_z.json",
        "c": "log/x.cma.16.64.best.json",
    }
    for kind in kinds:
        path = folder / names[kind]
        path.parent.mkdir(parents=True, exist_ok=True)
        tree = [held["c"][0].tolist(), 812.5] if kind == "c" else plain(held[kind])
        path.write_text(json.dumps(tree))
    return held


@pytest.mark.parametrize("env", ["doom", "carracing"])
def test_a_run_of_published_files_sees_dreams_and_acts(env: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    held = write(tmp_path / "theirs", env)
    (tmp_path / "theirs/log/x.cma.16.64.hist.json").write_text("[[1, 2.5, 3], [4, 5.5, 6]]")
    run(str(tmp_path / "theirs"), str(tmp_path / "run"))
    told = capsys.readouterr().out
    assert (
        f"{env} + authors' pixels: V (vae.json), M (rnn.json), initial codes (initial_z.json), C (*.best.json)" in told
    )
    assert "log/x.cma.16.64.hist.json: it has other shapes" in told and "lacks" not in told
    spec, params, about = load_controller(tmp_path / "run")
    assert spec.env == EnvSpec(env, authors_pixels=True)
    assert np.allclose(params, held["c"][0]) and about["trained"]["mean"] == 812.5
    model = models.load(tmp_path / "run", env=spec.env.label, precision="fp32")
    assert np.allclose(model.starts, np.concatenate(held["z"], 1), atol=1e-4)
    state = model.initial(2)
    dreamt = model.imagine(state, torch.zeros(2, model.action_size), torch.full((2, model.noise_size), 0.5))
    assert model.decode(dreamt.state).shape == (2, 64, 64, 3)
    controller = spec.controller(model)
    acts_as_theirs(env, controller, params)
    real = make_env(spec.env, shrink=False)
    agent = ModelAgent(model, controller, spec.inputs, params)
    (outcome,) = rollout([real], agent, [3], 12, record=True)
    real.close()
    assert outcome.length == 12 and outcome.episode is not None and np.ptp(outcome.episode.action) > 0


def acts_as_theirs(env: str, controller: Any, params: np.ndarray) -> None:
    """CLASSIC 1.5 and 2.6: biases first, then a row for each input; Doom's has no bias."""
    feat = np.random.default_rng(0).normal(size=controller.feat_size)
    if env == "carracing":
        expected = np.tanh(feat @ params[3:].reshape(288, 3) + params[:3])
    else:
        expected = np.tanh([feat @ params])
    ours = controller.act(torch.tensor(params)[None], torch.tensor(feat, dtype=torch.float32)[None])
    assert np.allclose(ours[0], expected, atol=1e-5)


@theirs
@pytest.mark.parametrize("env", ["carracing", "doom"])
def test_what_is_here_of_theirs_becomes_a_run_without_v(
    env: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(UserError, match="holds files of carracing and of doom; add --env carracing or --env doom"):
        run(str(FILES), str(tmp_path / "run"))
    run(str(FILES), str(tmp_path / "run"), "--env", env)
    told = capsys.readouterr().out
    assert "lacks V (vae.json)" in told and ("M (rnn.json): without V" in told) == (env == "doom")
    held = checkpoint.load(tmp_path / "run/controller/published" / FILE, "controller")
    mean = {"carracing": 900.4606, "doom": 958.5059}[env]
    assert len(held["params"]) == GAMES[env].params and held["about"]["trained"]["mean"] == pytest.approx(
        mean, abs=1e-3
    )
    with pytest.raises(UserError, match=r"run/vision/model.safetensors does not exist"):
        load_controller(tmp_path / "run")
    if env == "carracing":
        memory, about = models.load_module(tmp_path / "run/memory", "memory")
        assert isinstance(memory, published.PedalMDNRNN) and sum(p.numel() for p in memory.parameters()) == 422_368
        assert about["starts"].shape == (1, 64) and about["env"] == "carracing + authors' pixels"


def test_a_run_may_lack_anything(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path / "theirs", "carracing", "vm")
    run(str(tmp_path / "theirs"), str(tmp_path / "run"))
    told = capsys.readouterr().out
    assert "lacks initial codes (initial_z.json), C (*.best.json): dreams begin with codes drawn from N(0, 1)" in told
    assert not models.load(tmp_path / "run").starts.any()
    (tmp_path / "theirs/rnn/rnn.json").unlink()
    run(str(tmp_path / "theirs"), str(tmp_path / "alone"))
    assert "lacks M (rnn.json), C (*.best.json): without M the rest can be loaded" in capsys.readouterr().out
    vision, about = models.load_module(tmp_path / "alone/vision", "vision")
    assert vision.code_size == 32 and EnvSpec(**about["spec"]).authors_pixels


def test_mistakes_are_told_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source, out = tmp_path / "theirs", tmp_path / "run"
    with pytest.raises(UserError, match=r"give two folders, .*: import-published DIR OUT"):
        run(str(source))
    with pytest.raises(UserError, match="third is one too many: 2 may stand here without a flag"):
        run("first", "second", "third")
    with pytest.raises(UserError, match="theirs is no folder"):
        run(str(source), str(out))
    with pytest.raises(UserError, match=r"--env dmc:walker-walk: theirs are doom and carracing"):
        run(str(source), str(out), "--env", "dmc:walker-walk")
    source.mkdir()
    bad = {
        "cut": "[[1, 2",
        "ragged": "[[[1, 2], [3]], [1]]",
        "words": '[["a"], 1]',
        "nan": "[[1, NaN], 1]",
    }
    for name, text in bad.items():
        (source / f"{name}.json").write_text(text)
    with pytest.raises(UserError, match=r"theirs holds none of the published .json files$"):
        run(str(source), str(out))
    told = capsys.readouterr().out
    assert "cut.json: it is no JSON" in told and "ragged.json: it is no list of arrays" in told
    assert "words.json: it holds more than numbers" in told and "nan.json: it holds numbers that are not finite" in told
    write(source, "doom", "c")
    with pytest.raises(UserError, match=r"theirs holds none of the published .json files of carracing"):
        run(str(source), str(out), "--env", "carracing")
    shutil.copy(source / "log/x.cma.16.64.best.json", source / "other.best.json")
    with pytest.raises(UserError, match=r"holds several files for C .*: log/x.*.best.json, other.best.json; leave"):
        run(str(source), str(out))
    assert not out.exists()
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(UserError, match="run is not empty; name a folder that is"):
        run(str(source), str(out))
