"""Latency: measured tables, calibrated prediction, honest estimates."""

RUNTIMES = {
    "onnxruntime": "nassearch.latency.onnx_runtime:OnnxRuntime",
    "fake": "nassearch.latency.fake:FakeRuntime",
}
