"""ONNX Runtime: blocks get the time of the nodes that belong to them."""

from typing import Any

import numpy as np
import pytest

from nassearch.networks import Subnet
from nassearch.runtimes.onnx import OnnxRuntime, block_times
from nassearch.setting import Setting
from nassearch.space import SearchSpace, lower

SETTING = Setting("host", "onnxruntime", "fp32", 1, 1)


def _node(name: str, microseconds: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds}


RUN = {"cat": "Session", "name": "model_run", "dur": 0}


def test_nodes_count_for_the_block_in_their_name() -> None:
    events = [
        {"cat": "Session", "name": "model_loading", "dur": 99},
        _node("/blocks/blocks.0/conv/Conv", 1000),
        _node("/blocks/blocks.1/expand/Conv", 2000),
        _node("/blocks/blocks.1/Add", 500),
        RUN,
        _node("/blocks/blocks.0/conv/Conv", 1100),
        _node("/blocks/blocks.1/expand/Conv", 2200),
        _node("/blocks/blocks.1/Add", 600),
        RUN,
    ]
    found = block_times(events, 2)
    np.testing.assert_allclose(found.block_ms, [[1.0, 2.5], [1.1, 2.8]])
    np.testing.assert_array_equal(found.num_events, [1, 2])


def test_layout_changes_count_for_the_block_that_asked_for_them() -> None:
    events = [
        _node("/blocks/blocks.0/Conv", 1000),
        _node("ReorderInput_7", 300),
        _node("/blocks/blocks.1/Conv", 2000),
        _node("ReorderOutput_8", 100),
        RUN,
    ]
    np.testing.assert_allclose(block_times(events, 2).block_ms, [[1.0, 2.4]])


def test_a_traced_network_has_a_time_for_every_block(space: SearchSpace) -> None:
    network = Subnet(lower(space, space.smallest)).eval()
    trace = OnnxRuntime(SETTING).trace(network)
    for _ in range(3):
        trace.run_ms()
    found = trace.finish()
    assert found.block_ms.shape == (3, len(network.blocks))
    assert (found.block_ms > 0).all()
    assert (found.num_events > 0).all()


def test_a_session_gives_the_networks_logits(space: SearchSpace) -> None:
    import torch

    network = Subnet(lower(space, space.smallest)).eval()
    images = np.random.default_rng(1).standard_normal((1, *network.input_shape), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    session = OnnxRuntime(SETTING).load(network)
    np.testing.assert_allclose(session.run(images), expected, atol=1e-4)
    assert session.run_ms() > 0


@pytest.mark.parametrize("precision", ["fp16", "int4"])
def test_a_precision_it_does_not_run_is_refused(precision: str) -> None:
    from nassearch.errors import RuntimeUnavailableError
    from nassearch.runtimes.runtime import make_runtime

    with pytest.raises(RuntimeUnavailableError, match=precision):
        make_runtime(Setting("host", "onnxruntime", precision))
