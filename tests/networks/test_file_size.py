"""What a file will take is known before it is written."""

import numpy as np
import pytest

from nassearch.networks import Subnet
from nassearch.networks.file_size import file_bytes
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.onnx import random_images
from nassearch.runtimes.quantization import quantize_blocks
from nassearch.space import SearchSpace


@pytest.mark.parametrize("name", ["digits_tiny", "cifar_dense"])
def test_the_bytes_of_a_file_are_known_within_a_tenth(name: str) -> None:
    space = SearchSpace.load(name).mixed(("int8", "fp32"))
    drawn = space.sample_many(np.random.default_rng(0), 2)
    for architecture in (space.smallest, space.largest, *drawn):
        network = Subnet.of(space, architecture).eval()
        policy = architecture.precisions
        assert policy is not None
        graph = to_onnx(network, network.input_shape)
        model = quantize_blocks(graph, policy, random_images(network, 8))
        known = sum(
            file_bytes(spec, precision)
            for spec, precision in zip(network.specs, policy, strict=True)
        )
        assert known == pytest.approx(len(model), rel=0.1)
