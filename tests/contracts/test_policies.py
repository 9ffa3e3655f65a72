"""Policies over every op: the simulated network computes what ONNX Runtime computes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper

from nassearch.networks import Subnet, Supernet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.pipeline.quantized_training import QuantizedTraining
from nassearch.runtimes.quantization import node_blocks, quantize, quantize_blocks
from nassearch.runtimes.simulated_graph import WHOLE
from nassearch.runtimes.simulation import simulate
from nassearch.space import Architecture

STEPS = 2
NUM_IMAGES = 8


def _run(graph: bytes, images: np.ndarray, output: str) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {session.get_inputs()[0].name: images})
    return found


def _images(network: Subnet) -> np.ndarray:
    shape = (NUM_IMAGES, *network.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _policies(num_blocks: int, seed: int) -> Iterator[list[str]]:
    yield ["int8"] * num_blocks
    chosen = np.random.default_rng(seed).integers(0, 2, num_blocks)
    chosen[chosen.sum() % num_blocks] = 1  # something is in int8
    yield [("fp32", "int8")[number] for number in chosen]


def _last_quantized(graph: bytes) -> tuple[bytes, str, float]:
    """The graph with its last quantized tensor among its outputs, its name and its step."""
    model = onnx.load_from_string(graph)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    known = {value.name for value in model.graph.input} | set(stored) | {""}
    waiting, last = list(model.graph.node), None
    while waiting:
        node = next(node for node in waiting if known.issuperset(node.input))
        waiting.remove(node)
        known.update(node.output)
        if node.op_type == "DequantizeLinear" and node.input[0] not in stored:
            last = node
    assert last is not None
    name = last.output[0]
    if name != model.graph.output[0].name:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    return model.SerializeToString(), name, float(numpy_helper.to_array(stored[last.input[1]]))


def _check(graph: bytes, images: np.ndarray) -> None:
    shown, name, step = _last_quantized(graph)
    expected, found = _run(shown, images, name), {}
    with torch.inference_mode():
        simulate(graph).observe(torch.from_numpy(images), found.__setitem__)
    actual = found[name] if name in found else found[name + WHOLE] * step
    steps = np.abs(actual.numpy() - expected) / step
    # Blocks in float sum in another order than ONNX Runtime. What int8 blocks after them round
    # apart for it is multiplied in a wide map now and then; averaged into logits it is nothing.
    far = (steps > STEPS + 0.01).mean()
    assert far <= (0.0 if name == "logits" else 0.01), (name, steps.max(), far)


def _subnets(supernet: Supernet, architectures: list[Architecture]) -> list[Subnet]:
    """Of an op's space the smallest and the largest, of larger ones the smallest."""
    few = architectures[: 2 if supernet.space.name.startswith("op_") else 1]
    return [supernet.extract(architecture) for architecture in few]


def test_a_float_graph_is_simulated_exactly(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for subnet in _subnets(supernet, architectures):
        graph, images = to_onnx(subnet, subnet.input_shape, batch=None), _images(subnet)
        expected = _run(graph, images, "logits")
        with torch.inference_mode():
            actual = simulate(graph)(torch.from_numpy(images)).numpy()
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(actual, expected, atol=1e-5 * scale, rtol=1e-5)


def test_every_policy_is_simulated_to_two_steps(
    supernet: Supernet, architectures: list[Architecture], tmp_path: Path
) -> None:
    for number, subnet in enumerate(_subnets(supernet, architectures)):
        graph, images = to_onnx(subnet, subnet.input_shape, batch=None), _images(subnet)
        ranges = tmp_path / f"{number}.json"
        for precisions in _policies(len(subnet.blocks), seed=number):
            _check(quantize_blocks(graph, precisions, images, ranges=ranges), images)


def test_policies_quantize_their_blocks_alone(
    supernet: Supernet, architectures: list[Architecture], tmp_path: Path
) -> None:
    """All in int8 is the int8 graph there was, all in float the float graph; between, a mixture."""
    subnet = supernet.extract(architectures[0])
    graph, images = to_onnx(subnet, subnet.input_shape, batch=None), _images(subnet)
    ranges, count = tmp_path / "ranges.json", len(subnet.blocks)
    whole = quantize_blocks(graph, ["int8"] * count, images, ranges=ranges)
    assert whole == quantize(graph, [images], ranges=ranges)
    assert quantize_blocks(graph, ["fp32"] * count, images, ranges=ranges) == graph
    mixed = [("fp16", "int8")[number % 2] for number in range(count)]
    quantized = onnx.load_from_string(quantize_blocks(graph, mixed, images, ranges=ranges)).graph
    plain = onnx.load_from_string(graph).graph
    blocks, found = node_blocks(plain), {node.name: node for node in quantized.node}
    floats = {tensor.name for tensor in plain.initializer if tensor.data_type == tensor.FLOAT}
    for node in plain.node:
        weights = floats.intersection(node.input)
        if mixed[blocks[node.name]] != "int8":
            assert found[node.name].op_type == node.op_type
            assert weights <= set(found[node.name].input), node.name
        elif node.op_type in ("Conv", "Gemm"):
            assert node.input[1] not in found[node.name].input, node.name


def test_every_weight_learns_quantized_and_is_written_back(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    subnet = supernet.extract(architectures[0])
    images = torch.from_numpy(_images(subnet))
    training = QuantizedTraining(subnet, ["int8"] * len(subnet.blocks), images)
    weights = training.simulated.named_weights()
    assert [name for name, weight in weights.items() if not weight.value.requires_grad] == []
    training.simulated.train()(images).square().sum().backward()
    with torch.no_grad():
        for weight in weights.values():
            weight.value.mul_(1.05)
    training.write_back()
    again = QuantizedTraining(subnet, training.precisions, images).simulated.named_weights()
    for name, weight in weights.items():
        torch.testing.assert_close(again[name].value, weight.value, atol=1e-6, rtol=1e-5)
