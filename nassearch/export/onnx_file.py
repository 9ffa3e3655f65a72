"""ONNX: one graph with batch norm folded, for every engine."""

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from nassearch.errors import ExportError
from nassearch.export.format import ExportOptions, Run, in_batches
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import INPUT, to_onnx
from nassearch.runtimes.onnx import OnnxRuntime
from nassearch.setting import Setting


class OnnxFile:
    """`model.onnx`."""

    file_name = "model.onnx"
    imports: tuple[str, ...] = ("numpy", "onnxruntime")
    exact = True

    def write(self, subnet: Subnet, path: Path, order: ExportOptions) -> dict[str, Any]:
        model = checked(to_onnx(subnet, subnet.input_shape, batch=order.fixed_batch))
        path.write_bytes(model)
        return graph_facts(model) | {"batch": order.batch}

    def open(self, path: Path) -> Run:
        return open_graph(path.read_bytes(), where=path)

    def snippet(self) -> tuple[str, str, str]:
        return (
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession("{self.file_name}")',
            f'(logits,) = session.run(None, {{"{INPUT}": images}})',
        )


def checked(model: bytes) -> bytes:
    """`model` itself; ExportError where it is no valid ONNX."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"ONNX refuses the graph ({str(error).splitlines()[0]})") from error
    return model


def graph_facts(model: bytes) -> dict[str, Any]:
    """The versions a runtime must know to read the graph."""
    graph = onnx.load_from_string(model)
    return {
        "opset": {item.domain or "ai.onnx": item.version for item in graph.opset_import},
        "ir_version": graph.ir_version,
    }


def open_graph(model: bytes, *, where: object = "") -> Run:
    """A graph in ONNX Runtime, on one thread of the CPU.

    Raises RuntimeUnavailableError, naming `where` it lies, if the runtime lacks an operator.
    """
    session = OnnxRuntime(Setting("host", "onnxruntime")).session(model, where=where)
    size = session.get_inputs()[0].shape[0]

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])

    return in_batches(run, size if isinstance(size, int) else None)
