"""Runtimes: engines that run and time networks; one file each, and what their graphs need."""

RUNTIMES = {
    "onnxruntime": "nassearch.runtimes.onnx:OnnxRuntime",
    "cuda": "nassearch.runtimes.onnx:CudaRuntime",
    "tensorrt": "nassearch.runtimes.onnx:TensorRtRuntime",
    "openvino": "nassearch.runtimes.openvino:OpenVinoRuntime",
    "torch": "nassearch.runtimes.torch:TorchRuntime",
    "torch-compiled": "nassearch.runtimes.torch:CompiledTorchRuntime",
    "fake": "nassearch.runtimes.fake:FakeRuntime",
}
