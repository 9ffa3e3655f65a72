"""INT8 networks: static quantization with quantize-dequantize pairs, which every runtime reads."""

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from nassearch.errors import ConfigError, ExportError
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import INPUT
from nassearch.runtimes.activation_ranges import (
    MIN_IMAGES,
    Method,
    check_images,
    check_ranges,
    measure_ranges,
    weights_digest,
)
from nassearch.runtimes.activation_ranges import Images as Images
from nassearch.runtimes.bundle_runner import BLOCK
from nassearch.runtimes.channel_padding import pad_hidden_channels, pad_images
from nassearch.runtimes.simulation import unsimulated
from nassearch.setting import INT8, MIXED, Setting

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
    _divide_by_what_is_there(float_graph)
    pad_hidden_channels(float_graph)
    return _with_pairs(float_graph, _Batches(images), only=only, keep=keep, ranges=ranges)


def quantize_blocks(
    model: bytes,
    precisions: Sequence[str],
    images: Images | Iterable[Images],
    *,
    ranges: Path | None = None,
    method: Method = "minmax",
) -> bytes:
    """An ONNX graph whose blocks compute as a policy says: `int8` ones quantized, others in float.

    All in int8 it is what `quantize` gives with the same ranges, all in float the graph itself. A
    float block reads what an int8 block gives through its dequantized numbers; an int8 block rounds
    what it reads.

    Args:
        model: A network's float graph.
        precisions: One name for each block, the stem first and the head last.
        images: What activations are calibrated on, (n, c, h, w), normalised, or batches of them; at
            least 8.
        ranges: The file of the architecture's ranges: read where it is there, else measured, for
            all tensors, so that every policy shares them, and written.
        method: How ranges are measured, see `activation_ranges.measure_ranges`.

    Raises:
        ConfigError: The policy is for another architecture, or the ranges are of another network.
        DataError: There are too few images, or of another size.
        ExportError: An operator cannot be calibrated or quantized.
    """
    float_graph = onnx.load_from_string(model)
    blocks = node_blocks(float_graph.graph)
    num_blocks = max(blocks.values(), default=-1) + 1
    if len(precisions) != num_blocks:
        raise ConfigError(
            f"has {len(precisions)} precisions, the network {num_blocks} blocks: it is a policy"
            " for another architecture",
            where="policy",
            fix="give one precision for each block, the stem first and the head last",
        )
    images = images if isinstance(images, np.ndarray) else np.concatenate(list(images))
    check_images(float_graph, images)
    chosen = [name for name, block in blocks.items() if precisions[block] == INT8]
    if not chosen:
        return model
    weights = weights_digest(float_graph.graph)
    _divide_by_what_is_there(float_graph)
    with tempfile.TemporaryDirectory(prefix="nassearch-ranges-") as folder:
        path = Path(folder) / "ranges.json" if ranges is None else ranges
        if path.exists():
            check_ranges(path, method=method, weights=weights)
        else:
            _measure(float_graph, images, method=method, path=path, weights=weights)
        pad_hidden_channels(float_graph, within=chosen)
        return _with_pairs(float_graph, None, only=chosen, keep=(), ranges=path)


def _measure(
    float_graph: onnx.ModelProto, images: Images, *, method: Method, path: Path, weights: str
) -> None:
    """Ranges of all tensors, with the channels that a graph all in int8 has."""
    missing = unsimulated(float_graph.SerializeToString())
    if missing:
        raise ExportError(
            f"holds the operator {missing[0]}, whose range cannot be measured here",
            where="int8",
            fix="quantize the network as a whole, or write the op with others",
        )
    padded = onnx.ModelProto()
    padded.CopyFrom(float_graph)
    pad_hidden_channels(padded)
    measure_ranges(padded, images, method=method, path=path, weights=weights)


def node_blocks(graph: onnx.GraphProto) -> dict[str, int]:
    """The block that each node belongs to, in the graph's order.

    A node's name carries its block; what has none, between the tiles of a network that is run patch
    by patch, belongs to the block before it.
    """
    blocks, current = {}, 0
    for node in graph.node:
        match = BLOCK.search(node.name)
        current = current if match is None else int(match.group(1))
        blocks[node.name] = current
    return blocks


def node_modules(model: bytes) -> dict[str, str]:
    """The module of each matrix product, by the tensor that it multiplies with.

    A node's name is the path of its module; what lies in a container repeats the container's name.
    """
    found = {}
    for node in onnx.load_from_string(model).graph.node:
        if node.op_type != "MatMul":
            continue
        path: list[str] = []
        for part in node.name.strip("/").split("/")[:-1]:
            if path and part.startswith(f"{path[-1]}."):
                path.pop()
            path.append(part)
        found[node.input[1]] = ".".join(path)
    return found


def _with_pairs(
    float_graph: onnx.ModelProto,
    batches: "_Batches | None",
    *,
    only: Collection[str],
    keep: Collection[str],
    ranges: Path | None,
) -> bytes:
    """A graph, padded before, with quantize-dequantize pairs; ranges are of the file or batches."""
    swishes = {node.name for node in float_graph.graph.node if node.op_type == "HardSwish"}
    with tempfile.TemporaryDirectory(prefix="nassearch-int8-") as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            float_graph,
            path,
            batches,
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
    return _integer_hardswish(quantized, swishes.intersection(only) if only else swishes)


def _divide_by_what_is_there(model: onnx.ModelProto) -> None:
    """Average pools without padding count no padding, in place: the same in float.

    In int8 ONNX Runtime (1.32) else divides by the whole window where it reaches over the edge of
    an image of odd size, and gives half of the average.
    """
    for node in model.graph.node:
        given = {item.name: item for item in node.attribute}
        padded = "pads" in given and any(given["pads"].ints)
        if node.op_type == "AveragePool" and "count_include_pad" in given and not padded:
            given["count_include_pad"].i = 0


def in_precision(model: bytes, network: Subnet, setting: Setting, images: Images) -> bytes:
    """The float graph of a network as a setting's precision, or the network's policy, asks for.

    Ranges are those of `images`, a batch of the setting's size: good enough to be timed.
    """
    if setting.precision == INT8:
        return quantize(model, [images])
    if setting.precision == MIXED and network.precisions is not None:
        enough = np.resize(images, (max(MIN_IMAGES, len(images)), *images.shape[1:]))
        return quantize_blocks(model, network.precisions, enough)
    return model


def quantizable(model: bytes) -> list[str]:
    """The names of the operators that compute in int8, in the graph's order."""
    nodes = onnx.load_from_string(model).graph.node
    return [node.name for node in nodes if node.op_type in _COMPUTING]


def _integer_hardswish(model: onnx.ModelProto, names: Collection[str]) -> bytes:
    """x relu6(x + 3) / 6 between integers as the two integer operators it is, in the nodes `names`.

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
        source = dequantized.get(node.input[0]) if node.name in names else None
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
