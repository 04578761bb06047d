import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import worldmodels
from tests.web.conftest import FAMILIES, Exports
from worldmodels.core.errors import UserError
from worldmodels.web.graphs import Graph, check_exportable, exported

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
RUNTIME = Path(worldmodels.__file__).parent / "web/runtime"


class Doubled(nn.Module):
    """Twice what it is given, and as a graph a little more, if it is asked to be wrong."""

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + (self.more if torch.compiler.is_exporting() else 0)


def test_a_graph_that_differs_from_torch_is_refused() -> None:
    examples = {"x": torch.linspace(-1, 1, 6).reshape(3, 2)}
    file, apart = exported("fair.onnx", Graph(Doubled(0.0), examples, ("y",)))
    assert apart == 0
    (y,) = onnxruntime.InferenceSession(file).run(None, {"x": np.ones((7, 2), np.float32)})
    assert y.tolist() == [[2, 2]] * 7
    _, apart = exported("near.onnx", Graph(Doubled(3e-5), examples, ("y",)))
    assert 2e-5 < apart < 4e-5
    for wrong in (3e-4, float("nan")):
        with pytest.raises(UserError, match=r"^wrong\.onnx: as ONNX its y is off by .* more than 0\.0001"):
            exported("wrong.onnx", Graph(Doubled(wrong), examples, ("y",)))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(UserError, match=rf"^there is no {package}; .*worldmodels\[web\]"):
        check_exportable()


@pytest.mark.parametrize("family", FAMILIES)
def test_files_tell_nothing_of_the_machine_that_wrote_them(exports: Exports, family: str) -> None:
    home = str(Path(worldmodels.__file__).parents[1]).encode()
    folders = (home, str(exports[family].run).encode(), torch.__path__[0].encode())
    for path in exports[family].web.iterdir():
        assert not any(folder in path.read_bytes() for folder in folders), path


def test_the_runtime_is_what_its_page_says() -> None:
    import gzip

    told = (RUNTIME / "README.md").read_text()
    script = (RUNTIME / "onnxruntime.js").read_bytes()
    program = gzip.decompress((RUNTIME / "onnxruntime.wasm.gz").read_bytes())
    assert all(hashlib.sha256(content).hexdigest() in told for content in (script, program))
    assert b"ONNX Runtime Web v1.30.0" in script[:200] and "ONNX Runtime Web 1.30.0" in told
