"""Networks as ONNX: exported by torch, then compared with it, by the runtime that others will use."""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from worldmodels.core.errors import UserError

TOLERANCE = 1e-4
OPSET = 18  # what runtimes of 2023 know already
NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Graph:
    """A network that becomes a file.

    Args:
        net: takes tensors of `inputs`, in their order, and gives one or several of `outputs`.
        inputs: examples by name, (B, ...), B above 1; the file takes any number of rows.
        outputs: what it gives is called.
    """

    net: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


def check_exportable() -> None:
    """Raises UserError if a package is missing that exporting takes."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"there is no {', no '.join(missing)}; ONNX needs it: pip install 'worldmodels[web]'")


@torch.no_grad()
def exported(name: str, graph: Graph) -> tuple[bytes, float]:
    """A graph as the bytes of an ONNX file, and by how much its results differ from torch's at most.

    Raises:
        UserError: if that is more than TOLERANCE.
    """
    file = _onnx(graph)
    return file, max(_difference(name, graph, file, rows) for rows in (None, 1))


def _onnx(graph: Graph) -> bytes:
    rows = torch.export.Dim("rows")
    with _quiet():
        program = torch.onnx.export(
            graph.net.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=({0: rows},) * len(graph.inputs),
            verbose=False,
        )
    assert program is not None  # as it is only where a file is asked for
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # which tell where in whose folders the network's source lies
    file: bytes = program.model_proto.SerializeToString()
    return file


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own insides, and of packages that nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _difference(name: str, graph: Graph, file: bytes, rows: int | None) -> float:
    """By how much the file's results differ from torch's for the first `rows` (all, if None) of the examples."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    inputs = {key: value[:rows] for key, value in graph.inputs.items()}
    wanted = graph.net(*(value.clone() for value in inputs.values()))
    taken = {each.name for each in session.get_inputs()}  # those that make no difference are left out of a graph
    found = session.run(list(graph.outputs), {key: value.numpy() for key, value in inputs.items() if key in taken})
    named = zip(graph.outputs, wanted if isinstance(wanted, tuple) else (wanted,), found, strict=True)
    apart = {output: _apart(tensor.numpy(), array) for output, tensor, array in named}
    worst = max(apart, key=lambda output: apart[output])
    if not apart[worst] <= TOLERANCE:
        raise UserError(
            f"{name}: as ONNX its {worst} is off by {apart[worst]:.1g}, more than {TOLERANCE:g}; nothing was written"
        )
    return apart[worst]


def _apart(wanted: np.ndarray, found: np.ndarray) -> float:
    """How far two results are apart. Numbers: at most, as a share of their size, or of 1 if that is more. Pixels, which
    are rounded to one of 256 levels: in mean, of 1; without end, if any is off by more than a level."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return float("inf")
    if wanted.dtype == np.uint8:
        levels = np.abs(wanted.astype(int) - found.astype(int))
        return float(levels.mean() / 255) if levels.max() <= 1 else float("inf")
    other = wanted != found  # infinities are the same
    shares = np.abs(found[other] - wanted[other]) / np.maximum(1, np.abs(wanted[other]))
    return float(shares.max(initial=0))
