"""Every convolution of an int8 graph fits the fast kernels, and computes what it computed."""

import numpy as np
import onnx
import pytest
import torch

from nassearch.export.onnx_file import open_graph
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes import channel_padding, quantization
from nassearch.space import SearchSpace, lower


@pytest.fixture(scope="module", params=["cifar_resnet", "mobilenet_v3"])
def network(request: pytest.FixtureRequest) -> Subnet:
    space = SearchSpace.load(request.param)
    if space.name == "mobilenet_v3":
        space = SearchSpace.from_dict({**space.to_dict(), "resolution": [64]})
    torch.manual_seed(0)
    return Subnet(lower(space, space.smallest)).eval()


@pytest.fixture(scope="module")
def images(network: Subnet) -> np.ndarray:
    shape = (2, 1, *network.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def test_convolutions_have_the_channels_that_fast_kernels_take(
    network: Subnet, images: np.ndarray
) -> None:
    model = quantization.quantize(to_onnx(network, network.input_shape), images)
    graph = onnx.load_from_string(model).graph
    tensors = {tensor.name: tensor.dims for tensor in graph.initializer}
    origins = {node.output[0]: node.input[0] for node in graph.node if node.input}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 10
    for node in convolutions:
        outputs, inputs = tensors[origins[node.input[1]]][:2]
        groups = next(item.i for item in node.attribute if item.name == "group")
        if groups == 1:
            assert outputs >= 16, node.name
            assert inputs % 4 == 0, node.name
        else:
            assert outputs % 16 == 0, node.name


def test_the_int8_network_is_the_same_to_the_last_bit(
    network: Subnet, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = to_onnx(network, network.input_shape)
    with_channels = open_graph(quantization.quantize(graph, images))
    monkeypatch.setattr(quantization, "pad_hidden_channels", lambda model: None)
    monkeypatch.setattr(quantization, "pad_images", lambda model: None)
    without = open_graph(quantization.quantize(graph, images))
    test = torch.from_numpy(images[0])
    assert torch.equal(with_channels(test), without(test))


def test_a_channel_that_is_broadcast_stays_one() -> None:
    """A gate of one channel over all of them: sixteen would gate others than it did."""
    torch.manual_seed(0)

    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.gate = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(3, 1, 3)
            self.last = torch.nn.Conv2d(8, 4, 1)

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return self.last(self.body(given) * self.gate(given).sigmoid())

    module = Gated().eval()
    model = onnx.load_from_string(to_onnx(module, (3, 16, 16)))
    test = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = open_graph(model.SerializeToString())(test)
    channel_padding.pad_hidden_channels(model)
    assert torch.allclose(open_graph(model.SerializeToString())(test), expected, atol=1e-6)
