"""INT8 networks: static quantization with quantize-dequantize pairs, which every runtime reads."""

import logging
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import INPUT
from nassearch.runtimes.channel_padding import pad_hidden_channels, pad_images
from nassearch.setting import MIXED, Setting

Images = npt.NDArray[np.float32]
_COMPUTING = ("Conv", "Gemm", "MatMul", "Add", "Mul", "GlobalAveragePool", "LayerNormalization")


def quantize(
    model: bytes,
    images: Iterable[Images],
    *,
    only: Collection[str] = (),
    keep: Collection[str] = (),
    ranges: Path | None = None,
) -> bytes:
    """An ONNX graph in int8; activation ranges are those of `images`, batches of the graph's size.

    Activations are unsigned and weights signed, a scale for each channel: the form that x86
    processors run fastest (measured here: signed activations can be slower than fp32). Of the
    operators that can run in int8, `only` those named, if any are, and not those in `keep`. The
    ranges are kept in the file `ranges`, and read from it where it is there.
    """
    float_graph = onnx.load_from_string(model)
    pad_hidden_channels(float_graph)
    with tempfile.TemporaryDirectory(prefix="nassearch-int8-") as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            float_graph,
            path,
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(keep),
            calibration_cache_path=ranges,
        )
        quantized = onnx.load(path)
    pad_images(quantized)
    return _integer_hardswish(quantized)


def quantize_blocks(
    model: bytes,
    precisions: Sequence[str],
    images: Iterable[Images],
    *,
    ranges: Path | None = None,
) -> bytes:
    """interim"""
    wanted = [name for name in quantizable(model) if precisions[block_of(name)] == "int8"]
    return quantize(model, images, only=wanted, ranges=ranges) if wanted else model


def block_of(name: str) -> int:
    """The number of the block that an operator belongs to."""
    match = re.search(r"/blocks\.(\d+)/", name)
    assert match is not None
    return int(match.group(1))


def in_precision(
    model: bytes, network: Subnet, setting: Setting, images: Iterable[Images]
) -> bytes:
    """The float graph of a network as a setting's precision, or the network's policy, asks for."""
    if setting.precision == "int8":
        return quantize(model, images)
    if setting.precision == MIXED and network.precisions is not None:
        return quantize_blocks(model, network.precisions, images)
    return model


def quantizable(model: bytes) -> list[str]:
    """The names of the operators that compute in int8, in the graph's order."""
    nodes = onnx.load_from_string(model).graph.node
    return [node.name for node in nodes if node.op_type in _COMPUTING]


def _integer_hardswish(model: onnx.ModelProto) -> bytes:
    """x relu6(x + 3) / 6 between integers as the two integer operators it is.

    No runtime has an int8 HardSwish: each would leave the integers and come back. The gate,
    x/6 + 1/2 within 0..1, is an addition whose unsigned output saturates at just these ends; x/6 is
    the same integers as x with a sixth of the scale.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    dequantized = {
        node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"
    }
    nodes = []
    for node in graph.node:
        source = dequantized.get(node.input[0]) if node.op_type == "HardSwish" else None
        if source is None:
            nodes.append(node)
            continue
        scale, sixth = numpy_helper.to_array(tensors[source.input[1]]), f"{node.name}/sixth"
        graph.initializer.append(numpy_helper.from_array(scale / np.float32(6), sixth))
        nodes += _gated(node, source, sixth=sixth)
    if len(nodes) > len(graph.node):
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name) for name, value in _GATE.items()
        )
        del graph.node[:]
        graph.node.extend(nodes)
    return model.SerializeToString()


# 255 steps of the scale are one half: exactly what the gate adds
_GATE = {
    "gate/zero": np.uint8(0),
    "gate/scale": np.float32(1 / 255),
    "gate/steps": np.uint8(255),
    "gate/half_scale": np.float32(0.5 / 255),
}


def _gated(node: onnx.NodeProto, source: onnx.NodeProto, *, sixth: str) -> list[onnx.NodeProto]:
    """The six nodes that take the place of a HardSwish whose input `source` dequantizes."""

    def made(op: str, inputs: list[str], name: str) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [f"{node.name}/{name}"], name=f"{node.name}/{name}")

    zero, scale = "gate/zero", "gate/scale"
    first = made("DequantizeLinear", [source.input[0], sixth, source.input[2]], "x_by_6")
    half = made("DequantizeLinear", ["gate/steps", "gate/half_scale", zero], "half")
    total = made("Add", [first.output[0], half.output[0]], "add")
    quantized = made("QuantizeLinear", [total.output[0], scale, zero], "quantize")
    gate = made("DequantizeLinear", [quantized.output[0], scale, zero], "gate")
    product = made("Mul", [node.input[0], gate.output[0]], "mul")
    product.output[0] = node.output[0]
    return [first, half, total, quantized, gate, product]


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
    """Calibration batches as onnxruntime asks for them."""

    def __init__(self, images: Iterable[Images]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._images, None)
        return None if batch is None else {INPUT: batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that onnxruntime gives on the root logger: our graphs are folded."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
