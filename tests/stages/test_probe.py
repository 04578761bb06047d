import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.core.errors import UserError
from worldmodels.evolution.evaluators import BlindTask
from worldmodels.settings.config import ProbeConfig
from worldmodels.settings.envspec import EnvSpec
from worldmodels.stages.probe import Seen, features, play, probe, r_squared


def seen(rng: np.random.Generator, steps: int = 40) -> tuple[Seen, np.ndarray]:
    """An episode whose feature tells place and noisily speed, and nothing of luck."""
    feat = rng.normal(size=(steps + 1, 5)).astype(np.float32)
    truth = {
        "place": feat[:, :2] @ np.array([[1.0, 2.0], [3.0, -1.0]]) + 4,
        "speed": feat[:, 2:3] + rng.normal(size=(steps + 1, 1)),
        "luck": rng.normal(size=(steps + 1, 1)),
        "constant": np.ones((steps + 1, 1)),
    }
    obs = np.zeros((steps + 1, 64, 64, 3), np.uint8)
    return Seen(obs, np.zeros((steps, 1), np.float32), {k: v.astype(np.float32) for k, v in truth.items()}), feat


def test_r_squared_is_what_a_linear_map_can_explain() -> None:
    rng = np.random.default_rng(0)
    fitted, scored = ([seen(rng) for _ in range(60)] for _ in range(2))
    result = r_squared(
        [f for _, f in fitted], [f for _, f in scored], *([e for e, _ in x] for x in (fitted, scored)), 0
    )
    assert set(result) == {"place", "speed", "luck"}  # a constant has no variance to explain
    assert result["place"][0] > 0.999 and result["place"][1] < 1e-3
    score, half = result["speed"]
    assert score == pytest.approx(0.5, abs=0.06) and 0.01 < half < 0.1
    assert abs(result["luck"][0]) < 0.03


@pytest.mark.parametrize(("env", "names"), [
    ("doom", {"health", "place", "monsters", "fireballs", "fireball distance", "fireball offset"}),
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
    found = probe(ProbeConfig(run=(tmp_path / "a", tmp_path / "b"), episodes=8, workers=0, policy="held"))
    assert list(found) == ["a: code", "a: z c h", "b: code", "b: z c h"]
    assert found["a: code"] == found["b: code"]
    record = json.loads((tmp_path / "a/probe.json").read_text())
    assert record["r2"]["a: code"]["place"] == list(found["a: code"]["place"]) and record["episodes"] == 8
    assert (tmp_path / "a/probe.png").read_bytes()[:4] == b"\x89PNG"
    assert "R² of a linear probe, doom" in capsys.readouterr().out
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a").symlink_to(tmp_path / "b")
    twins = (tmp_path / "a", tmp_path / "c/a")  # named alike: told apart by their paths
    assert len(probe(ProbeConfig(run=twins, episodes=8, workers=0, policy="held"))) == 4


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
