"""ONNX: one graph with batch norm folded, for every engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import onnx
import torch
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from torch import Tensor

from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError, ExportError
from nassearch.export.format import Format, PhotoOptions, Run, in_batches, takes_photos
from nassearch.export.photo_graph import (
    PHOTO_OPSET,
    network_part,
    preprocessing_part,
    with_preprocessing,
)
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import INPUT, OPSET, to_onnx
from nassearch.networks.wiring import Outputs
from nassearch.progress import Progress
from nassearch.runtimes.onnx import OnnxRuntime
from nassearch.setting import Setting


@dataclass(frozen=True)
class OnnxFile:
    """`model.onnx`."""

    options: PhotoOptions = field(default_factory=PhotoOptions)
    title: ClassVar[str] = "ONNX Runtime"
    file_name: ClassVar[str] = "model.onnx"
    imports: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime")
    exact: ClassVar[bool] = True

    def write(
        self, subnet: Subnet, path: Path, *, data: Data, progress: Progress
    ) -> dict[str, object]:
        model = network_graph(subnet, self.options)
        if self.options.preprocess_in_graph:
            model = with_preprocessing(model, data, subnet.input_shape)
        path.write_bytes(checked(model))
        return graph_facts(model) | {"batch": self.options.batch} | photo_facts(subnet, self)

    def open(self, path: Path) -> Run:
        return open_graph(read_graph(path), where=path)

    def snippet(self) -> tuple[str, str, str]:
        return (
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession("{self.file_name}")',
            f'(logits,) = session.run(None, {{"{INPUT}": images}})',
        )


def network_graph(subnet: Subnet, options: PhotoOptions) -> bytes:
    """The network's graph, in a version of ONNX that can say what comes before it."""
    opset = PHOTO_OPSET if options.preprocess_in_graph else OPSET
    return to_onnx(subnet, subnet.input_shape, batch=options.fixed_batch, opset=opset)


def photo_facts(subnet: Subnet, format: Format) -> dict[str, object]:
    """What a config says of a file that takes photos."""
    if not takes_photos(format):
        return {}
    return {
        "preprocess_in_graph": True,
        "input": f"uint8 (n, height, width, {subnet.input_shape[0]})",
    }


def checked(model: bytes) -> bytes:
    """`model` itself; ExportError where it is no valid ONNX."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"ONNX refuses the graph ({str(error).splitlines()[0]})",
            where="format onnx",
            fix="export without onnx, or write the space's own op with torch's operators",
        ) from error
    return model


def read_graph(path: Path) -> bytes:
    """The graph at `path`.

    Raises:
        CheckpointError: It is none, or its tensors lie in other files, which a stranger's graph
            could look for anywhere.
    """
    content = path.read_bytes()
    try:
        model = onnx.load_from_string(content)
        is_elsewhere = any(tensor.external_data for tensor in _tensors(model))
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            "is no ONNX graph", where=path, fix="export the network again"
        ) from error
    if is_elsewhere:
        raise CheckpointError(
            "its tensors lie in other files, which are not read",
            where=path,
            fix="save it with its tensors inside",
        )
    return content


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor in a protocol buffer, at any depth."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for kind, value in message.ListFields():
        if kind.type == kind.TYPE_MESSAGE:
            for item in value if isinstance(value, Sequence) else (value,):
                yield from _tensors(item)


def graph_facts(model: bytes) -> dict[str, object]:
    """The versions a runtime must know to read the graph."""
    graph = onnx.load_from_string(model)
    return {
        "opset": {item.domain or "ai.onnx": item.version for item in graph.opset_import},
        "ir_version": graph.ir_version,
    }


def open_parts(model: bytes) -> tuple[Run, Run]:
    """The network of a graph that takes photos, and what it does to them before."""
    return open_graph(network_part(model)), open_graph(preprocessing_part(model))


def open_graph(model: bytes, *, where: object = "") -> Run:
    """A graph in ONNX Runtime, on one thread of the CPU.

    Raises RuntimeUnavailableError, naming `where` it lies, if the runtime lacks an operator.
    """
    session = OnnxRuntime(Setting("host", "onnxruntime")).session(model, where=where)
    size = session.get_inputs()[0].shape[0]
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> Outputs:
        given = [torch.from_numpy(array) for array in session.run(None, {INPUT: images.numpy()})]
        return given[0] if len(given) == 1 else dict(zip(names, given, strict=True))

    return in_batches(run, size if isinstance(size, int) else None)
