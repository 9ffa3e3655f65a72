"""Sensitive layers are left in float, and no more of them than the bound asks for."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from nassearch.export.int8 import FloatGraph, keep_sensitive
from nassearch.export.onnx_file import open_graph
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantizable
from nassearch.space import SearchSpace, lower


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> FloatGraph:
    """A small network, one of whose layers has a channel a thousand times as large as the rest."""
    torch.manual_seed(3)
    space = SearchSpace.load("digits_tiny")
    network = Subnet(lower(space, space.smallest)).eval()
    images = torch.randn(32, *network.input_shape, generator=torch.Generator().manual_seed(1))
    place = tmp_path_factory.mktemp("int8") / "ranges.json"
    with torch.no_grad():
        first = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
        first.weight[0] *= 1000
    return FloatGraph(to_onnx(network, network.input_shape, batch=None), images, 8, place)


def error(graph: FloatGraph, model: bytes) -> float:
    found, expected = (open_graph(one)(graph.images) for one in (model, graph.model))
    return float((found - expected).abs().max() / expected.abs().max())


def test_nothing_is_kept_where_int8_is_good_enough(graph: FloatGraph) -> None:
    found = keep_sensitive(graph, lambda model: error(graph, model), bound=10.0)
    assert found.kept == ()
    assert found.loss == error(graph, found.model) > 0


def test_as_few_are_kept_as_the_bound_asks_for(graph: FloatGraph) -> None:
    whole = error(graph, graph.quantize())
    found = keep_sensitive(graph, lambda model: error(graph, model), bound=whole / 4)
    assert error(graph, found.model) == found.loss <= whole / 4
    assert 0 < len(found.kept) < len(quantizable(graph.model))
    assert error(graph, graph.quantize(keep=found.kept[:-1])) > whole / 4


def test_a_bound_nothing_meets_leaves_the_network_in_float(graph: FloatGraph) -> None:
    found = keep_sensitive(graph, lambda model: float(model != graph.model), bound=0.0)
    assert found.model == graph.model
    assert sorted(found.kept) == sorted(quantizable(graph.model))


def test_the_integer_hardswish_is_the_float_one_to_a_step(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(
        {
            "name": "swish",
            "resolution": [8],
            "num_classes": 4,
            "stem": {"width": 16, "stride": 1, "activation": "hswish"},
            "stages": [
                {
                    "op": "conv",
                    "width": 16,
                    "depth": 1,
                    "stride": 1,
                    "kernel_size": 3,
                    "activation": "hswish",
                }
            ],
        }
    )
    network = Subnet(lower(space, space.smallest)).eval()
    images = torch.randn(32, *network.input_shape, generator=torch.Generator().manual_seed(1))
    graph = FloatGraph(to_onnx(network, network.input_shape), images, 1, tmp_path / "ranges.json")
    model = graph.quantize()
    ops = [
        {node.op_type for node in onnx.load_from_string(m).graph.node} for m in (graph.model, model)
    ]
    assert ["HardSwish" in found for found in ops] == [True, False]
    found, expected = (open_graph(one)(images).numpy() for one in (model, graph.model))
    spread = expected.max() - expected.min()
    assert np.abs(found - expected).max() < 0.05 * spread
