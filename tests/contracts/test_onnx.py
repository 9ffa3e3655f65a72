"""The ONNX graph computes what the PyTorch network computes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from nassearch.networks import Supernet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.channel_padding import pad_hidden_channels
from nassearch.space import Architecture

TOLERANCE = 1e-4


def _run(graph: bytes, images: torch.Tensor) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return logits


def _check(network: nn.Module, shape: tuple[int, int, int]) -> None:
    images = torch.randn(1, *shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = network(images).numpy()
    actual = _run(to_onnx(network, shape), images)
    # untrained ResNets give logits of thousands, whose rounding is as much larger
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE * scale, rtol=TOLERANCE)


FEW = 4  # architectures of a space are checked in each run, the rest when slow


def test_onnx_runtime_equals_pytorch(supernet: Supernet, architectures: list[Architecture]) -> None:
    for architecture in architectures[:FEW]:
        subnet = supernet.extract(architecture)
        _check(subnet, subnet.input_shape)


@pytest.mark.slow
def test_onnx_runtime_equals_pytorch_for_the_rest(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for architecture in architectures[FEW:]:
        subnet = supernet.extract(architecture)
        _check(subnet, subnet.input_shape)


def test_channels_added_for_int8_change_nothing(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for architecture in architectures[:2]:
        subnet = supernet.extract(architecture)
        images = torch.randn(1, *subnet.input_shape, generator=torch.Generator().manual_seed(5))
        graph = to_onnx(subnet, subnet.input_shape)
        padded = onnx.load_from_string(graph)
        pad_hidden_channels(padded)
        expected = _run(graph, images)
        actual = _run(padded.SerializeToString(), images)
        np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-5)
