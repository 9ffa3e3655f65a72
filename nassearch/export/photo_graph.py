"""ONNX graphs that take photos: resizing, scaling and normalisation before the network itself.

Their input is a batch of photos as a decoder gives them, uint8 (n, height, width, channels), RGB or
grey, of any height and width. Resizing is ONNX's own with antialiasing, whose weights are Pillow's:
pixels are those of the Python path to one grey level.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, utils

from nassearch.data.dataset import Data
from nassearch.networks.onnx_graph import INPUT, OUTPUT

PHOTO_OPSET = 18
"""The first whose Resize has antialiasing."""
_READY = "preprocess/ready"
"""The tensor between the two: what the network alone takes."""


def with_preprocessing(model: bytes, data: Data, shape: tuple[int, int, int]) -> bytes:
    """The graph of a network that takes images of `shape` (c, r, r), for photos.

    What is done to a photo is what `data` does to its images.
    """
    network = onnx.load_from_string(model)
    batch = _batch(network.graph.input[0])
    graph = _Nodes()
    _preprocess(graph, data, shape)
    photos = helper.make_tensor_value_info(
        INPUT, TensorProto.UINT8, [batch, "height", "width", shape[0]]
    )
    ready = helper.make_tensor_value_info(_READY, TensorProto.FLOAT, [batch, *shape])
    before = helper.make_graph(graph.nodes, "preprocess", [photos], [ready], graph.constants)
    for node in network.graph.node:
        node.input[:] = [_READY if name == INPUT else name for name in node.input]
    network.graph.input[0].name = _READY
    merged = compose.merge_graphs(before, network.graph, [(_READY, _READY)])
    merged.value_info.append(ready)
    network.graph.CopyFrom(merged)
    whole: bytes = network.SerializeToString()
    return whole


def network_part(model: bytes) -> bytes:
    """The network of a graph that takes photos; any other graph as it is."""
    if not _takes_photos(model):
        return model
    part = utils.Extractor(onnx.load_from_string(model)).extract_model([_READY], [OUTPUT])
    for node in part.graph.node:
        node.input[:] = [INPUT if name == _READY else name for name in node.input]
    part.graph.input[0].name = INPUT
    network: bytes = part.SerializeToString()
    return network


def preprocessing_part(model: bytes) -> bytes:
    """What a graph that takes photos does before its network: photos to images (n, c, r, r)."""
    part = utils.Extractor(onnx.load_from_string(model)).extract_model([INPUT], [_READY])
    before: bytes = part.SerializeToString()
    return before


def _takes_photos(model: bytes) -> bool:
    graph = onnx.load_from_string(model).graph
    return any(_READY in node.output for node in graph.node)


def _batch(value: onnx.ValueInfoProto) -> int | str:
    dimension = value.type.tensor_type.shape.dim[0]
    return dimension.dim_param or dimension.dim_value


class _Nodes:
    """Nodes and constants of a graph that is being written down."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: object, dtype: type[np.generic] = np.int64) -> str:
        name = f"preprocess/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op: str, inputs: Sequence[str], output: str = "", **attributes: object) -> str:
        name = output or f"preprocess/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def resize(self, images: str, sizes: str) -> str:
        # without exclude_outside what lies beyond an edge is taken for the edge's own pixels
        return self.add(
            "Resize",
            [images, "", "", sizes],
            mode="linear",
            antialias=1,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        )


def _preprocess(graph: _Nodes, data: Data, shape: tuple[int, int, int]) -> None:
    channels, pixels, _ = shape
    size = graph.add("Shape", [INPUT])
    count, height, width = (
        graph.add("Slice", [size, graph.constant([at]), graph.constant([at + 1])])
        for at in range(3)
    )
    leading = graph.add("Concat", [count, graph.constant([channels])], axis=0)
    images = graph.add("Transpose", [INPUT], perm=[0, 3, 1, 2])
    if data.preprocessing.resize.is_crop:
        short = data.preprocessing.resize.short_side(pixels)
        images = _cropped(graph, images, (leading, height, width), short=short, pixels=pixels)
    else:
        stored = graph.constant(data.train.shape[1:])
        images = graph.resize(images, graph.add("Concat", [leading, stored], axis=0))
    values = graph.add("Cast", [images], to=TensorProto.FLOAT)
    mean, std = (np.reshape(row, (1, -1, 1, 1)) * 255 for row in (data.mean, data.std))
    centred = graph.add("Sub", [values, graph.constant(mean, np.float32)])
    whole = data.preprocessing.resize.is_crop or data.train.shape[1:] == (pixels, pixels)
    normalised = graph.add("Div", [centred, graph.constant(std, np.float32)], _READY * whole)
    if not whole:
        sizes = graph.add("Concat", [leading, graph.constant([pixels, pixels])], axis=0)
        graph.add("Identity", [graph.resize(normalised, sizes)], _READY)


def _cropped(
    graph: _Nodes, images: str, sizes: tuple[str, str, str], *, short: int, pixels: int
) -> str:
    """The short side to `short`, then the central `pixels`, with torchvision's roundings."""
    leading, height, width = sizes
    target = graph.constant([short])
    longest, shortest = graph.add("Max", [height, width]), graph.add("Min", [height, width])
    long = graph.add("Div", [graph.add("Mul", [target, longest]), shortest])
    is_upright = graph.add("LessOrEqual", [width, height])
    resized = [
        graph.add("Where", [is_upright, long, target]),
        graph.add("Where", [is_upright, target, long]),
    ]
    images = graph.resize(images, graph.add("Concat", [leading, *resized], axis=0))
    cut = graph.add("Sub", [graph.add("Concat", resized, axis=0), graph.constant([pixels, pixels])])
    half = graph.add(
        "Mul", [graph.add("Cast", [cut], to=TensorProto.FLOAT), graph.constant(0.5, np.float32)]
    )
    starts = graph.add("Cast", [graph.add("Round", [half])], to=TensorProto.INT64)
    ends = graph.add("Add", [starts, graph.constant([pixels, pixels])])
    return graph.add("Slice", [images, starts, ends, graph.constant([2, 3])])
