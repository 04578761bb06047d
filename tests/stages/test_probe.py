import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.core.errors import UserError
from worldmodels.evolution.evaluators import BlindTask
from worldmodels.settings.commands import ProbeConfig
from worldmodels.settings.envspec import EnvSpec
from worldmodels.stages.probe import Seen, _too_few, features, pictures, play, probe
from worldmodels.stages.regression import r_squared


@pytest.mark.parametrize(("env", "names"), [
    ("doom", {"health", "place", "monsters", "fireballs", "fireball distance", "fireball offset",
              "near fireball distance", "near fireball offset"}),
    ("carracing", {"speed", "road offset", "road angle"}),
    ("dmc:reacher-easy", {"position", "to_target", "velocity"}),
])  # fmt: skip
def test_episodes_tell_the_truth_beside_each_frame(env: str, names: set[str]) -> None:
    (episode,) = play(BlindTask(EnvSpec(env, 2 if env.startswith("dmc") else 1), "uniform", 30, [5]))
    assert set(episode.truth) == names | {"reward"}
    assert len(episode.obs) == 31 and len(episode.action) == 30
    assert all(len(values) == 31 and values.dtype == np.float32 for values in episode.truth.values())
    assert episode.truth["reward"][0] == 0  # received on arrival
    if env == "carracing":
        assert abs(episode.truth["road angle"][0]) < 0.2 and abs(episode.truth["road offset"][0]) < 1
    if env == "doom":
        assert episode.truth["health"][0] == 100 and (episode.truth["reward"][1:] == 1).all()


def test_features_are_those_that_an_agent_would_have(world: World, model) -> None:
    episodes = play(BlindTask(EnvSpec("doom"), "held", 20, [1, 2]))
    short = dataclasses.replace(episodes[1], obs=episodes[1].obs[:9], action=episodes[1].action[:8])
    parts = model.default_inputs
    code, feat = features(model, [episodes[0], short], (("code",), parts), 0)
    assert code[0].shape == (21, model.code_size) and feat[1].shape[0] == 9
    with torch.no_grad():
        embed = model.encode(torch.from_numpy(short.obs))
    assert np.allclose(code[1], embed[:, : model.code_size].numpy(), atol=1e-5)
    assert not np.allclose(feat[0][5], feat[0][6])


def test_the_command_compares_runs_and_leaves_table_and_plot(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for part in ("vision", "memory"):
            (tmp_path / name / part).symlink_to(world.run / part)
    found = probe(
        ProbeConfig(run=(tmp_path / "a", tmp_path / "b"), episodes=8, workers=0, policy="held", max_steps=200)
    )
    kinds = ["code", "code, nonlinear", "z c h", "z c h, nonlinear"]
    assert list(found) == [f"{run}: {kind}" for run in "ab" for kind in kinds] + ["pictures"]
    assert all(found[f"a: {kind}"] == found[f"b: {kind}"] for kind in kinds)
    assert found["a: code"]["place"] != found["a: code, nonlinear"]["place"]
    record = json.loads((tmp_path / "a/probe.json").read_text())
    assert record["r2"]["a: code"]["place"] == list(found["a: code"]["place"]) and record["episodes"] == 8
    assert list(record["r2_by_half"]) == [f"{run}: {kind}" for run in "ab" for kind in ("code", "z c h")] + ["pictures"]
    assert record["r2_by_half"]["a: code"]["place"] != record["r2"]["a: code"]["place"]
    assert (tmp_path / "a/probe.png").read_bytes()[:4] == b"\x89PNG"
    told = capsys.readouterr().out
    assert "R² of a linear probe and of a nonlinear one, doom" in told
    frames = record["frames"]
    assert frames["place"] == frames["reward"] > frames["fireball offset"] >= frames["near fireball offset"] > 0
    assert re.search(rf"fireball offset +{frames['fireball offset']} +-?\d", told)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a").symlink_to(tmp_path / "b")
    twins = (tmp_path / "a", tmp_path / "c/a")  # named alike: told apart by their paths
    assert len(probe(ProbeConfig(run=twins, episodes=8, workers=0, policy="held", max_steps=60))) == 9


def test_pictures_are_a_yardstick() -> None:
    """A bar wanders over them: of where it is, its main directions tell, and they are no other frames'."""
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(6):
        place = rng.integers(0, 56, 80)
        obs = np.zeros((80, 64, 64, 3), np.uint8)
        for frame, at in zip(obs, place, strict=True):
            frame[:, at : at + 8] = 200
        truth = {"place": place[:, None].astype(np.float32), "reward": np.zeros((80, 1), np.float32)}
        episodes.append(Seen(obs, np.zeros((79, 1), np.float32), truth))
    fit_on, score_on = pictures(episodes[:4], episodes[4:], seed=3)
    assert fit_on[0].shape == (80, 128) and fit_on[0].dtype == np.float32
    found = r_squared(fit_on, score_on, [e.truth for e in episodes[:4]], [e.truth for e in episodes[4:]], 0)
    assert found["place"][0] > 0.9
    again, _ = pictures(episodes[:4], episodes[:1], seed=3)
    assert all(np.array_equal(one, other) for one, other in zip(fit_on, again, strict=True))


def test_too_few_episodes_to_fit_on_are_told_of() -> None:
    half = {"v: code": {"limbs": (0.20, 0.1), "reward": (0.9, 0.1)}, "v: h": {"limbs": (0.30, 0.1)}}
    whole = {"v: code": {"limbs": (0.24, 0.1), "reward": (0.5, 0.1)}, "v: h": {"limbs": (0.32, 0.1)}}
    (told,) = _too_few(whole | {"v: code, nonlinear": whole["v: code"]}, half)
    assert "find less (v: code), so more --episodes would find more" in told
    assert _too_few(half, half) == []


def test_v_is_probed_alone_where_there_is_no_m(world: World, tmp_path: Path) -> None:
    young = tmp_path / "young"
    shutil.copytree(world.run / "vision", young / "vision")
    asked = {"episodes": 8, "workers": 0, "policy": "held", "max_steps": 60}
    alone = probe(ProbeConfig(run=(young,), **asked))
    assert list(alone) == ["young: code", "young: code, nonlinear", "pictures"]
    both = probe(ProbeConfig(run=(young, world.run), **asked))
    assert len(both) == 7 and both["young: code"] == alone["young: code"]
    with_m = both[f"{world.run.name}: code"]
    assert with_m["fireballs"] == pytest.approx(alone["young: code"]["fireballs"], abs=1e-3)
    told = "--inputs z h are features of an M, and .*young/memory/model.safetensors does not exist"
    with pytest.raises(UserError, match=told):
        probe(ProbeConfig(run=(young,), inputs=("z", "h"), **asked))


def test_mistakes_are_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vision/model.safetensors does not exist"):
        probe(ProbeConfig(run=(tmp_path,), workers=0))
    with pytest.raises(UserError, match=r"--inputs probs is not a feature of .*: z, h, c"):
        probe(ProbeConfig(run=(world.run,), inputs=("z", "probs"), workers=0))
    with pytest.raises(UserError, match="--episodes 3 are too few"):
        ProbeConfig(run=(world.run,), episodes=3)
    with pytest.raises(UserError, match=r"--policy hald is unknown; did you mean held\?"):
        probe(ProbeConfig(run=(world.run,), policy="hald", workers=0))
    module, _ = models.load_module(world.run / "vision", "vision")
    spec = EnvSpec("ALE/Pong-v5").plain()
    models.save_module(module, tmp_path / "vision", "vision", env="ALE/Pong-v5", spec=spec, clips=[])
    with pytest.raises(UserError, match="--env ALE/Pong-v5 cannot tell its true state"):
        probe(ProbeConfig(run=(tmp_path,), workers=0))
