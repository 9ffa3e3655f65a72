"""Simulated networks: they learn through their rounding, and follow the quantizer's scales."""

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor

from nassearch.errors import ExportError
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantize_blocks
from nassearch.runtimes.simulated_weight import Grid
from nassearch.runtimes.simulation import simulate, unsimulated
from nassearch.space import SearchSpace, lower


@pytest.fixture(scope="module")
def network(space: SearchSpace) -> Subnet:
    torch.manual_seed(4)
    return Subnet(lower(space, space.smallest)).eval()


@pytest.fixture(scope="module")
def images(network: Subnet) -> np.ndarray:
    shape = (16, *network.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def graphs(network: Subnet, images: np.ndarray) -> tuple[bytes, bytes]:
    """In float and in int8."""
    graph = to_onnx(network, network.input_shape, batch=None)
    return graph, quantize_blocks(graph, ["int8"] * len(network.blocks), images)


def test_any_number_of_images_is_simulated_alike(
    graphs: tuple[bytes, bytes], images: np.ndarray
) -> None:
    network, batch = simulate(graphs[1]).eval(), torch.from_numpy(images)
    with torch.inference_mode():
        together = network(batch)
        apart = torch.cat([network(batch[:1]), network(batch[1:])])
    assert torch.equal(together, apart)


def test_a_graph_of_fixed_batch_runs_in_pieces(network: Subnet, images: np.ndarray) -> None:
    batch = torch.from_numpy(images[:5])
    simulated = simulate(to_onnx(network, network.input_shape, batch=2))
    assert simulated.batch_size == 2
    with torch.inference_mode():
        torch.testing.assert_close(simulated(batch), network(batch), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_float_network_within_rounding(
    graphs: tuple[bytes, bytes], images: np.ndarray
) -> None:
    batch, gradients = torch.from_numpy(images), []
    for simulated in (simulate(graphs[0]), simulate(graphs[1], weights=graphs[0])):
        simulated(batch).square().sum().backward()
        weights = simulated.named_weights()
        gradients.append({name: weight.value.grad for name, weight in weights.items()})
    exact, rounded = gradients
    assert exact.keys() == rounded.keys()
    cosines = {
        name: float(F.cosine_similarity(gradient.flatten(), rounded[name].flatten(), dim=0))
        for name, gradient in exact.items()
    }
    assert min(cosines.values()) > 0.8, cosines
    assert np.mean(list(cosines.values())) > 0.95


def test_nothing_is_learned_where_a_value_is_clamped() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["logits"]),
    ]
    shape = ["batch", 1, 1, 4]
    graph = helper.make_graph(
        nodes,
        "clamp",
        [helper.make_tensor_value_info("images", 1, shape)],
        [helper.make_tensor_value_info("logits", 1, shape)],
        [
            helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("zero", onnx.TensorProto.UINT8, [], [10]),
        ],
    )
    simulated = simulate(helper.make_model(graph).SerializeToString())
    images = torch.tensor([-5.1, -5.6, 0.25, 130.0]).reshape(1, 1, 1, 4).requires_grad_()
    logits = simulated(images)
    # 0.25 is half a step: to the even one
    assert logits.flatten().tolist() == [-5.0, -5.0, 0.0, 122.5]
    logits.sum().backward()
    assert images.grad is not None
    assert images.grad.flatten().tolist() == [1.0, 0.0, 1.0, 0.0]


def test_weights_that_changed_have_the_scales_of_a_new_export(
    graphs: tuple[bytes, bytes], images: np.ndarray, network: Subnet
) -> None:
    simulated = simulate(graphs[1], weights=graphs[0]).eval()
    with torch.no_grad():
        for weight in simulated.named_weights().values():
            weight.value.mul_(1.7)
    simulated.refresh_scales()
    changed = onnx.load_from_string(graphs[0])
    for tensor in changed.graph.initializer:
        found = simulated.named_weights().get(tensor.name)
        if found is not None:
            value = found.value.detach().numpy()
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    precisions = ["int8"] * len(network.blocks)
    again = simulate(quantize_blocks(changed.SerializeToString(), precisions, images))
    for name, weight in again.named_weights().items():
        grid = simulated.named_weights()[name].grid
        if weight.grid is not None and grid is not None:
            torch.testing.assert_close(grid.scale, weight.grid.scale)
            torch.testing.assert_close(grid.zero_point, weight.grid.zero_point)


@pytest.mark.parametrize(("kind", "expected"), [("int8", (2.0 / 127, 0)), ("uint8", (3 / 255, 85))])
def test_a_grid_spans_its_values(kind: str, expected: tuple[float, int]) -> None:
    grid = Grid(torch.tensor(1.0), torch.tensor(0), kind=kind, axis=0)
    values = torch.tensor([-1.0, 0.3, 2.0])
    grid.fit(values)
    assert float(grid.scale) == pytest.approx(expected[0])
    assert int(grid.zero_point) == expected[1]
    assert (grid.real(values) - values).abs().max() <= expected[0] / 2 + 1e-6


def test_what_is_constant_has_a_scale_all_the_same() -> None:
    grid = Grid(torch.ones(2), torch.zeros(2), kind="int8", axis=0)
    grid.fit(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    assert grid.scale.tolist() == pytest.approx([1.0, 2 / 127])


def test_an_operator_that_is_not_simulated_is_named(network: Subnet) -> None:
    model = onnx.load_from_string(to_onnx(network, network.input_shape, batch=None))
    model.graph.node[0].op_type = "Hardmax"
    assert unsimulated(model.SerializeToString()) == ["Hardmax"]
    with pytest.raises(ExportError, match=r"Hardmax .*blocks\.0") as caught:
        simulate(model.SerializeToString())
    assert "\n" not in str(caught.value)


def test_training_is_watched_by_name(graphs: tuple[bytes, bytes], images: np.ndarray) -> None:
    found: dict[str, Tensor] = {}
    simulate(graphs[0]).observe(torch.from_numpy(images), found.__setitem__)
    assert {"images", "logits"} <= found.keys()
