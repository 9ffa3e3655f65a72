"""OpenVINO on the CPU: fp32, bf16 and int8."""

import re
import time
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from nassearch.errors import RuntimeUnavailableError
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import in_precision
from nassearch.runtimes.runtime import BlockTimes, Floats, OfImages
from nassearch.setting import MIXED, Setting

_BLOCK = re.compile(r"/blocks\.(\d+)/")
# OpenVINO lowers fp32 graphs to bf16 by itself where the CPU has it, unless it is told not to.
_TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32", MIXED: "f32"}
_NAMES = {"f32": "float32", "bf16": "bfloat16"}


class OpenVinoRuntime:
    """One CPU, `threads` threads, one stream; optional: `pip install openvino`."""

    title: ClassVar[str] = "OpenVINO on the CPU"
    precisions: ClassVar[Collection[str]] = tuple(_TYPES)
    profiles_blocks: ClassVar[bool] = True
    on_gpu = False
    graph_formats: ClassVar[Mapping[str, str]] = {
        "fp32": "onnx",
        "bf16": "onnx",
        "int8": "int8",
        MIXED: "int8",
    }
    mixable: ClassVar[tuple[str, ...]] = ("int8", "fp32")

    def __init__(self, setting: Setting) -> None:
        try:
            import openvino
        except ImportError as error:
            raise RuntimeUnavailableError(
                "OpenVINO is not installed", where=setting, fix="pip install openvino"
            ) from error
        self.setting = setting
        release = openvino.__version__.partition("-")[0]
        self.version = f"openvino {release}, inference precision {_TYPES[setting.precision]}"
        self._core = openvino.Core()
        self._exported: tuple[Subnet, bytes] | None = None

    def load(self, network: Subnet) -> "OpenVinoSession":
        return self.load_graph(self._export(network), network)

    def load_graph(self, model: bytes, network: OfImages) -> "OpenVinoSession":
        """A session on an ONNX graph that was exported before."""
        return OpenVinoSession(self._compile(model, traced=False), self._images(network))

    def trace(self, network: Subnet) -> "OpenVinoTrace":
        compiled = self._compile(self._export(network), traced=True)
        return OpenVinoTrace(compiled, self._images(network), len(network.blocks))

    def _images(self, network: OfImages) -> Any:
        shape = (self.setting.batch, *network.input_shape)
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    def _export(self, network: Subnet) -> bytes:
        """The network's graph; the last one is kept, since it is loaded with and without trace."""
        if self._exported is None or self._exported[0] is not network:
            model = to_onnx(network, network.input_shape, batch=self.setting.batch)
            model = in_precision(model, network, self.setting, self._images(network))
            self._exported = (network, model)
        return self._exported[1]

    def _compile(self, model: bytes, *, traced: bool) -> Any:
        precision = _TYPES[self.setting.precision]
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": "1",
            "PERF_COUNT": "YES" if traced else "NO",
        }
        if self.setting.threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(self.setting.threads)
        compiled = self._core.compile_model(self._core.read_model(model), "CPU", options)
        ran = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
        if precision not in ran and _NAMES[precision] not in ran:
            raise RuntimeUnavailableError(
                f"OpenVINO runs {ran} where {precision} was asked for",
                where=self.setting,
                fix="this processor lacks it: use --precision fp32",
            )
        return compiled


class OpenVinoSession:
    """A network in OpenVINO."""

    def __init__(self, compiled: Any, images: Any) -> None:
        self._request = compiled.create_infer_request()
        self._images = images

    def run_ms(self) -> float:
        start = time.perf_counter_ns()
        self._request.infer([self._images], share_inputs=True)
        return (time.perf_counter_ns() - start) / 1e6

    def run(self, images: Any) -> Any:
        """Logits for `images`, a float32 array of the session's batch size."""
        return next(iter(self._request.infer([images]).values()))


class OpenVinoTrace:
    """A network in OpenVINO with its performance counters on."""

    def __init__(self, compiled: Any, images: Any, blocks: int) -> None:
        self._request = compiled.create_infer_request()
        self._images = images
        self._runs: list[Floats] = []
        self._events = np.zeros(blocks, dtype=np.int64)

    def run_ms(self) -> float:
        start = time.perf_counter_ns()
        self._request.infer([self._images], share_inputs=True)
        took = (time.perf_counter_ns() - start) / 1e6
        times = np.zeros(len(self._events))
        events = np.zeros_like(self._events)
        current = 0
        for node in self._request.profiling_info:
            if node.status.name != "EXECUTED":
                continue
            match = _BLOCK.search(node.node_name)
            if match is not None:
                current = int(match.group(1))
            times[current] += node.real_time.total_seconds() * 1e3
            events[current] += 1
        self._runs.append(times)
        self._events = events
        return took

    def finish(self) -> BlockTimes:
        return BlockTimes(np.array(self._runs), self._events)
