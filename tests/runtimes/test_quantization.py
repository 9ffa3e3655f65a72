"""INT8 graphs: what is to run in int8 does, in networks trained or not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from nassearch.errors import ConfigError, DataError, ExportError
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantize, quantize_blocks
from nassearch.space import SearchSpace, lower


def test_every_weight_and_bias_of_a_fresh_network_is_quantized(space: SearchSpace) -> None:
    network = Subnet(lower(space, space.largest)).eval()  # its biases are equal: all zero
    images = np.random.default_rng(0).standard_normal((1, *network.input_shape), dtype=np.float32)
    graph = onnx.load_from_string(quantize(to_onnx(network, network.input_shape), [images])).graph
    integers = {
        node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in {tensor.name for tensor in graph.initializer}
    }
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert layers
    for layer in layers:
        assert set(layer.input[1:]) <= integers, layer.name


@pytest.fixture(scope="module")
def small(space: SearchSpace) -> tuple[bytes, np.ndarray]:
    """A network's graph, and images for it."""
    torch.manual_seed(1)
    network = Subnet(lower(space, space.smallest)).eval()
    shape = (16, *network.input_shape)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return to_onnx(network, network.input_shape, batch=None), images


def test_ranges_are_those_of_onnx_runtime(small: tuple[bytes, np.ndarray], tmp_path: Path) -> None:
    graph, images = small
    quantize_blocks(graph, ["int8"] * 5, images, ranges=tmp_path / "ours.json")
    quantize(graph, [images], ranges=tmp_path / "theirs.json")
    ours, theirs = (
        json.loads((tmp_path / name).read_text())["data"] for name in ("ours.json", "theirs.json")
    )
    assert theirs.keys() <= ours.keys()
    for name, expected in theirs.items():
        for end in ("lowest", "highest"):
            found, value = ours[name][end], expected[end]
            value = value["data"] if isinstance(value, dict) else value
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_policies_share_the_ranges_of_a_file(
    small: tuple[bytes, np.ndarray], tmp_path: Path
) -> None:
    graph, images = small
    ranges = tmp_path / "ranges.json"
    first = quantize_blocks(graph, ["int8"] * 5, images, ranges=ranges)
    before = ranges.read_bytes()
    # other images: the ranges in the file hold
    assert quantize_blocks(graph, ["int8"] * 5, images * 3, ranges=ranges) == first
    quantize_blocks(graph, ["fp32", "int8", "fp32", "int8", "fp32"], images, ranges=ranges)
    assert ranges.read_bytes() == before


def test_percentiles_leave_an_outlier_out(small: tuple[bytes, np.ndarray], tmp_path: Path) -> None:
    graph, images = small
    images = np.tile(images, (20, 1, 1, 1))
    images[0, 0, 0, 0] = 1000.0
    highest = {}
    for method in ("minmax", "percentile"):
        path = tmp_path / f"{method}.json"
        quantize_blocks(graph, ["int8"] * 5, images, ranges=path, method=method)
        highest[method] = json.loads(path.read_text())["data"]["images"]["highest"]
    assert highest["minmax"] == 1000.0
    assert highest["percentile"] < 10.0


@pytest.mark.parametrize(
    ("precisions", "change", "error", "says"),
    [
        (["int8"] * 4, lambda x: x, ConfigError, "4 precisions, the network 5 blocks: it is a pol"),
        (["int8"] * 5, lambda x: x[:7], DataError, "calibration images: are 7, too few"),
        (["int8"] * 5, lambda x: x[:, :, :4], DataError, "are 1 x 4 x 8, the network takes 1 x 8"),
    ],
)
def test_what_cannot_be_quantized_is_one_line(
    small: tuple[bytes, np.ndarray],
    precisions: list[str],
    change: Callable[[np.ndarray], np.ndarray],
    error: type[Exception],
    says: str,
) -> None:
    graph, images = small
    with pytest.raises(error, match=says) as caught:
        quantize_blocks(graph, precisions, change(images))
    assert "\n" not in str(caught.value)


def test_ranges_of_another_network_or_method_are_refused(
    small: tuple[bytes, np.ndarray], space: SearchSpace, tmp_path: Path
) -> None:
    graph, images = small
    ranges = tmp_path / "ranges.json"
    quantize_blocks(graph, ["int8"] * 5, images, ranges=ranges)
    with pytest.raises(ConfigError, match="ranges by minmax, not by percentile"):
        quantize_blocks(graph, ["int8"] * 5, images, ranges=ranges, method="percentile")
    other = Subnet(lower(space, space.smallest)).eval()
    other_graph = to_onnx(other, other.input_shape, batch=None)
    with pytest.raises(ConfigError, match="ranges of another network"):
        quantize_blocks(other_graph, ["int8"] * 5, images, ranges=ranges)
    ranges.write_text("none")
    with pytest.raises(ConfigError, match="holds no ranges"):
        quantize_blocks(graph, ["int8"] * 5, images, ranges=ranges)


def test_an_operator_of_unknown_range_is_named(small: tuple[bytes, np.ndarray]) -> None:
    graph, images = small
    model = onnx.load_from_string(graph)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Celu"
    with pytest.raises(ExportError, match="operator Celu, whose range"):
        quantize_blocks(model.SerializeToString(), ["int8"] * 5, images)


def test_averages_over_the_edge_of_an_odd_image_are_right_in_int8() -> None:
    """ONNX Runtime's integer pool divides by the whole window where padding counts."""
    space = SearchSpace.from_dict(
        {
            "name": "averages",
            "resolution": [7],
            "num_classes": 4,
            "stem": {"width": 16, "stride": 1, "activation": "relu"},
            "stages": [{"op": "skip", "width": 16, "depth": 1, "stride": 2}],
        }
    )
    torch.manual_seed(0)
    network = Subnet(lower(space, space.smallest)).eval()
    shape = (8, *network.input_shape)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    graph = quantize(to_onnx(network, network.input_shape, batch=None), [images])
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    spread = expected.max() - expected.min()
    assert np.abs(found - expected).max() < 0.05 * spread
