"""INT8 graphs: what is to run in int8 does, in networks trained or not."""

import numpy as np
import onnx

from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantize
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
