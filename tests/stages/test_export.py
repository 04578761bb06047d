import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import World
from worldmodels import models
from worldmodels.commands import COMMANDS
from worldmodels.core.errors import UserError
from worldmodels.models.mdnrnn import ClassicWorldModel
from worldmodels.stages.export import export
from worldmodels.web.beginnings import beginnings
from worldmodels.web.families import translated

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def exported(*words: str) -> None:
    export(COMMANDS["export"].read(list(words)))


@pytest.fixture(scope="module")
def alone(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An export of ONNX alone, over one of an RSSM, and what the command said."""
    out = tmp_path_factory.mktemp("alone") / "onnx"
    out.mkdir()
    (out / "dream.json").write_text("{}")
    (out / "heads.onnx").touch()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exported(str(world.run), "--onnx", str(out))
    return out, said.getvalue()


def test_onnx_alone_is_the_networks_and_what_they_take(alone: tuple[Path, str]) -> None:
    out, said = alone
    names = {"README.md", "dream.json", "dream.safetensors", "encoder.onnx", "decoder.onnx", "memory.onnx"}
    assert {path.name for path in out.iterdir()} == names
    about = json.loads((out / "dream.json").read_text())
    assert about["env"] == "doom" and about["family"] == "mdnrnn" and about["beginnings"]["starts"] > 2
    assert about["aspect"] == 1.6 and about["rate"] == 35 and about["keys"] == {"left": [-1.0], "right": [1.0]}
    assert "memory.onnx" in said and f"onnx  {out}" in said and "e-0" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{run}", r"give --web DIR for a page"),
        ("{run} --web {tmp}/x --onnx {tmp}/x", r"--web and --onnx name one folder"),
        ("{tmp}/nowhere --web {tmp}/x", r"--run .*nowhere is not there"),
        ("{run} --onnx {tmp}/model.onnx", r"--onnx .*model\.onnx is to be a folder"),
        ("{run} --web {run}", r"--web .* holds something else than an export"),
        ("{tmp} --web {tmp}/x", r"vision/model\.safetensors does not exist"),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(world: World, tmp_path: Path, words: str, said: str) -> None:
    before = sorted(world.run.rglob("*"))
    with pytest.raises(UserError, match=said) as told:
        exported(*words.format(run=world.run, tmp=tmp_path).split())
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir()) and sorted(world.run.rglob("*")) == before


def test_a_graph_that_is_wrong_leaves_the_former_export_whole(
    world: World, alone: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = alone
    former = {path: path.read_bytes() for path in out.iterdir()}
    right = ClassicWorldModel.expected

    def wrong(self: Any, state: Any, action: Any) -> Any:
        h, *rest = right(self, state, action)
        return (h + 0.01 if torch.compiler.is_exporting() else h, *rest)

    monkeypatch.setattr(ClassicWorldModel, "expected", wrong)
    with pytest.raises(UserError, match=r"memory: as ONNX its next_h is off by 0\.01"):
        exported(str(world.run), "--onnx", str(out))
    assert {path: path.read_bytes() for path in out.iterdir()} == former


def test_a_model_of_ones_own_is_refused_in_one_line() -> None:
    class Mine:
        pass

    with pytest.raises(UserError, match="Mine of your own cannot be exported: only an mdnrnn and an rssm"):
        translated(Mine(), {"z": torch.zeros(1, 2)})  # type: ignore[arg-type]


def test_one_beginning_is_enough(world: World) -> None:
    """As an import without the authors' initial codes has it; and a run may have kept no moments."""
    model = models.load(world.run, precision="fp32")
    model.starts = model.starts[:1]
    model.moments = {}
    found = beginnings(model, 0)
    assert list(found) == ["starts"] and found["starts"]["z"].shape == (1, 8)
    graphs = translated(model, found["starts"]).graphs
    assert all(len(value) > 1 for graph in graphs.values() for value in graph.inputs.values())
