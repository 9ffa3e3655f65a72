"""ONNX Runtime: on the CPU in fp32 and int8, and through the GPU providers of its builds."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as refusal

from nassearch.errors import RuntimeUnavailableError
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import INPUT, to_onnx
from nassearch.runtimes.bundle_runner import attribute
from nassearch.runtimes.quantization import in_precision
from nassearch.runtimes.runtime import BlockTimes, OfImages
from nassearch.setting import MIXED, Setting


class OnnxRuntime:
    """One CPU, `threads` intra-op threads, batch fixed when the graph is exported."""

    title: ClassVar[str] = "ONNX Runtime on the CPU"
    profiles_blocks: ClassVar[bool] = True
    on_gpu = False
    graph_formats: ClassVar[Mapping[str, str]] = {"fp32": "onnx", "int8": "int8", MIXED: "int8"}
    provider: ClassVar[str] = "CPUExecutionProvider"
    precisions: ClassVar[Mapping[str, Mapping[str, str]]] = {"fp32": {}, "int8": {}, MIXED: {}}
    """The precisions the provider runs, each with the provider's options for it."""
    mixable: ClassVar[tuple[str, ...]] = ("int8", "fp32")
    package: ClassVar[str] = "onnxruntime"

    def __init__(self, setting: Setting) -> None:
        if self.provider not in onnxruntime.get_available_providers():
            raise RuntimeUnavailableError(
                f"this build of onnxruntime has no {self.provider}",
                where=setting,
                fix=f"pip install {self.package}",
            )
        self.setting = setting
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self._exported: tuple[Subnet, bytes] | None = None

    def load(self, network: Subnet) -> "OnnxSession":
        return OnnxSession(self.session(self.export(network)), self._images(network))

    def load_graph(self, model: bytes, network: OfImages) -> "OnnxSession":
        """A session on an ONNX graph that was exported before."""
        return OnnxSession(self.session(model), self._images(network))

    def trace(self, network: Subnet) -> "OnnxTrace":
        return OnnxTrace(self, self.export(network), self._images(network), len(network.blocks))

    def session(self, model: bytes, trace: Path | None = None, *, where: object = "") -> Any:
        """An inference session on a graph (`where` it lies), its profiler writing to `trace`.

        Raises RuntimeUnavailableError where onnxruntime lacks an operator of the graph, or fell
        back to another provider.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.setting.threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would time the machine's other work rather than the network's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace)
        providers = [(self.provider, dict(self.precisions[self.setting.precision]))]
        if self.provider != OnnxRuntime.provider:
            # a provider that takes no node of the graph is still listed as the session's first
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(
                model,
                options,
                providers=providers,
                # from the CPU there is nothing to fall back to; it would print, and try again
                enable_fallback=self.provider != OnnxRuntime.provider,
            )
        except Exception as error:
            if "fallback" in str(error):
                raise fell_back(self.provider, [OnnxRuntime.provider], self.setting) from error
            if not isinstance(error, _REFUSALS):
                raise
            raise RuntimeUnavailableError(
                f"{self.version} cannot run the graph ({_refusal(error)})",
                where=where or self.setting,
                fix="update onnxruntime, or export for another runtime",
            ) from error
        check_provider(session.get_providers(), self.provider, self.setting)
        return session

    def export(self, network: Subnet) -> bytes:
        """The network's graph in the setting's precision and batch.

        The last one is kept, since a network is loaded with and without the profiler.
        """
        if self._exported is None or self._exported[0] is not network:
            self._exported = (network, export_graph(network, self.setting))
        return self._exported[1]

    def _images(self, network: OfImages) -> dict[str, object]:
        return {INPUT: random_images(network, self.setting.batch)}


def random_images(network: OfImages, batch: int) -> Any:
    """Normal noise of the network's input shape, (batch, channels, pixels, pixels), float32."""
    shape = (batch, *network.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def export_graph(network: Subnet, setting: Setting) -> bytes:
    """The network as an ONNX graph in a setting's precision and batch, wherever it is to run."""
    model = to_onnx(network, network.input_shape, batch=setting.batch)
    return in_precision(model, network, setting, random_images(network, setting.batch))


_REFUSALS = (
    refusal.Fail,
    refusal.InvalidArgument,
    refusal.InvalidGraph,
    refusal.InvalidProtobuf,
    refusal.NotImplemented,
    refusal.RuntimeException,
    UnicodeDecodeError,  # of what it says about names that are no text
)


def _refusal(error: Exception) -> str:
    """What onnxruntime said, without its code and its list of tensors, on one line."""
    text = " ".join(str(error).split()).split(" : ", 2)[-1]
    return text.rpartition(", Error ")[2].removeprefix("Fatal error: ")[:200]


class CudaRuntime(OnnxRuntime):
    """One NVIDIA GPU through ONNX Runtime's CUDA provider."""

    title = "ONNX Runtime on an NVIDIA GPU (CUDA)"
    graph_formats: ClassVar[Mapping[str, str]] = {"fp32": "onnx", "tf32": "onnx"}
    mixable: ClassVar[tuple[str, ...]] = ()
    on_gpu = True
    provider = "CUDAExecutionProvider"
    precisions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "fp32": {"use_tf32": "0"},
        "tf32": {"use_tf32": "1"},
    }
    package = "onnxruntime-gpu"


class TensorRtRuntime(OnnxRuntime):
    """One NVIDIA GPU through ONNX Runtime's TensorRT provider."""

    title = "ONNX Runtime on an NVIDIA GPU (TensorRT)"
    graph_formats: ClassVar[Mapping[str, str]] = {
        "fp32": "onnx",
        "fp16": "onnx",
        "int8": "int8",
        MIXED: "int8",
    }
    mixable: ClassVar[tuple[str, ...]] = ("int8", "fp16")
    on_gpu = True
    provider = "TensorrtExecutionProvider"
    precisions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "fp32": {},
        "fp16": {"trt_fp16_enable": "1"},
        "int8": {"trt_int8_enable": "1", "trt_fp16_enable": "1"},
        MIXED: {"trt_int8_enable": "1", "trt_fp16_enable": "1"},
    }
    package = "onnxruntime-gpu and TensorRT"


def check_provider(running: Sequence[str], provider: str, setting: Setting) -> None:
    """RuntimeUnavailableError where a session does not run on the provider it was asked to."""
    if not running or running[0] != provider:
        raise fell_back(provider, running, setting)


def fell_back(provider: str, running: Sequence[str], setting: Setting) -> RuntimeUnavailableError:
    """The error of a session that would have been timed on the wrong processor."""
    return RuntimeUnavailableError(
        f"onnxruntime fell back from {provider} to {', '.join(running)}",
        where=setting,
        fix="check the driver and the libraries of the provider, or choose another --runtime",
    )


class OnnxSession:
    """A network in ONNX Runtime."""

    def __init__(self, session: Any, images: dict[str, object]) -> None:
        self._session = session
        self._images = images

    def run_ms(self) -> float:
        start = time.perf_counter_ns()
        self._session.run(None, self._images)
        return (time.perf_counter_ns() - start) / 1e6

    def run(self, images: Any) -> Any:
        """Logits for `images`, a float32 array of the session's batch size."""
        return self._session.run(None, {INPUT: images})[0]


class OnnxTrace:
    """A network in ONNX Runtime with its profiler on."""

    def __init__(
        self, runtime: OnnxRuntime, model: bytes, images: dict[str, object], blocks: int
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="nassearch-trace-")
        self._session = runtime.session(model, Path(self._directory.name) / "trace")
        self._images = images
        self._blocks = blocks

    def run_ms(self) -> float:
        start = time.perf_counter_ns()
        self._session.run(None, self._images)
        return (time.perf_counter_ns() - start) / 1e6

    def finish(self) -> BlockTimes:
        path = Path(self._session.end_profiling())
        events = json.loads(path.read_text(encoding="utf-8"))
        del self._session
        self._directory.cleanup()
        return block_times(events, self._blocks)


def block_times(events: list[dict[str, object]], blocks: int) -> BlockTimes:
    """What each block took in each run, from ONNX Runtime's trace."""
    return BlockTimes(*attribute(events, blocks))
