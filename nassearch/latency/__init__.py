"""Latency: measured tables, calibrated prediction, honest estimates."""

RUNTIMES = {
    "onnxruntime": "nassearch.latency.onnx_runtime:OnnxRuntime",
    "cuda": "nassearch.latency.onnx_runtime:CudaRuntime",
    "tensorrt": "nassearch.latency.onnx_runtime:TensorRtRuntime",
    "openvino": "nassearch.latency.openvino_runtime:OpenVinoRuntime",
    "torch": "nassearch.latency.torch_runtime:TorchRuntime",
    "torch-compiled": "nassearch.latency.torch_runtime:CompiledTorchRuntime",
    "fake": "nassearch.latency.fake:FakeRuntime",
}
