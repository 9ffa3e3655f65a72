"""Every runtime in the table: absent with one line, or it times networks and their blocks."""

import numpy as np
import pytest

from nassearch.errors import RuntimeUnavailableError
from nassearch.networks import Subnet
from nassearch.runtimes import RUNTIMES
from nassearch.runtimes.onnx import CudaRuntime, OnnxRuntime, check_provider
from nassearch.runtimes.runtime import Runtime, make_runtime
from nassearch.setting import Setting
from nassearch.space import SearchSpace, lower


def _runtime(name: str, precision: str) -> Runtime:
    try:
        return make_runtime(Setting("host", name, precision, 1, 1))
    except RuntimeUnavailableError as error:
        assert error.fix, "it says what to install"
        pytest.skip(str(error))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "torch-compiled" else [])
        for name in RUNTIMES
    ],
)
def test_a_runtime_times_networks_and_their_blocks(
    space: SearchSpace, name: str, precision: str
) -> None:
    runtime = _runtime(name, precision)
    network = Subnet(lower(space, space.largest)).eval()
    assert runtime.version
    session = runtime.load(network)
    assert min(session.run_ms() for _ in range(3)) > 0
    trace = runtime.trace(network)
    for _ in range(3):
        trace.run_ms()
    found = trace.finish()
    assert found.block_ms.shape == (3, len(network.blocks))
    assert found.num_events.shape == (len(network.blocks),)
    assert (found.block_ms >= 0).all()
    # what a runtime fuses across blocks counts for one of them, but no stage loses all its time
    assert (found.block_ms.sum(axis=0) > 0).mean() > 0.8


def test_int8_logits_are_close_to_those_of_fp32(space: SearchSpace) -> None:
    network = Subnet(lower(space, space.largest)).eval()
    images = np.random.default_rng(0).standard_normal((1, *network.input_shape), dtype=np.float32)
    exact, rounded = (
        OnnxRuntime(Setting("host", "onnxruntime", precision)).load(network).run(images)
        for precision in ("fp32", "int8")
    )
    assert np.abs(rounded - exact).max() < 0.15 * np.abs(exact).max()
    assert not np.array_equal(rounded, exact)


def test_a_silent_fallback_is_refused() -> None:
    setting = Setting("a100", "cuda")
    check_provider(
        ["CUDAExecutionProvider", "CPUExecutionProvider"], "CUDAExecutionProvider", setting
    )
    with pytest.raises(RuntimeUnavailableError, match=r"fell back.*CPUExecutionProvider"):
        check_provider(["CPUExecutionProvider"], "CUDAExecutionProvider", setting)


def test_a_provider_this_build_lacks_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeUnavailableError, match="pip install onnxruntime-gpu"):
        CudaRuntime(Setting("a100", "cuda"))


def test_an_absent_openvino_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from nassearch.runtimes.openvino import OpenVinoRuntime

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeUnavailableError, match="pip install openvino"):
        OpenVinoRuntime(Setting("host", "openvino"))


def test_a_provider_that_runs_none_of_the_graph_is_refused(space: SearchSpace) -> None:
    class Elsewhere(OnnxRuntime):
        """In every build: it takes none of these operators and leaves them to the CPU."""

        provider = "AzureExecutionProvider"

    runtime = Elsewhere(Setting("host", "azure"))
    with pytest.raises(RuntimeUnavailableError, match="fell back from AzureExecutionProvider"):
        runtime.load(Subnet(lower(space, space.smallest)).eval())
