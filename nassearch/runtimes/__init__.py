"""Runtimes: engines that run and time networks; one file each, and what their graphs need."""

from typing import Any, Literal

from nassearch import config

RUNTIMES = {
    "onnxruntime": "nassearch.runtimes.onnx:OnnxRuntime",
    "cuda": "nassearch.runtimes.onnx:CudaRuntime",
    "tensorrt": "nassearch.runtimes.onnx:TensorRtRuntime",
    "openvino": "nassearch.runtimes.openvino:OpenVinoRuntime",
    "torch": "nassearch.runtimes.torch:TorchRuntime",
    "torch-compiled": "nassearch.runtimes.torch:CompiledTorchRuntime",
    "fake": "nassearch.runtimes.fake:FakeRuntime",
}


def runs_on(name: str) -> Literal["cpu", "gpu"] | None:
    """What a runtime of RUNTIMES runs on, whatever the machine; None where that decides, or where
    it is none of them.
    """
    kind: Any = config.resolve(RUNTIMES, name, kind="runtime") if name in RUNTIMES else None
    if kind is None or getattr(kind, "wherever", False):
        return None
    return "gpu" if kind.on_gpu else "cpu"
