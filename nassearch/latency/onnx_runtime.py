"""ONNX Runtime: fp32 on the CPU."""

import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from nassearch.errors import RuntimeUnavailableError
from nassearch.latency.setting import BlockTimes, Setting
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import INPUT, to_onnx

_BLOCK = re.compile(r"/blocks\.(\d+)/")
_PROVIDER = "CPUExecutionProvider"


class OnnxRuntime:
    """One CPU, `threads` intra-op threads, batch fixed when the graph is exported."""

    def __init__(self, setting: Setting) -> None:
        if setting.precision != "fp32":
            raise RuntimeUnavailableError(
                f"the runtime onnxruntime does not run {setting.precision} here",
                where=setting,
                fix="use --precision fp32",
            )
        self.setting = setting
        self.version = f"onnxruntime {onnxruntime.__version__}"

    def load(self, network: Subnet) -> "OnnxSession":
        return OnnxSession(self._session(self._export(network)), self._images(network))

    def load_bytes(self, model: bytes, network: Subnet) -> "OnnxSession":
        """A session on an ONNX graph that was exported before."""
        return OnnxSession(self._session(model), self._images(network))

    def trace(self, network: Subnet) -> "OnnxTrace":
        return OnnxTrace(self, self._export(network), self._images(network), len(network.blocks))

    def _export(self, network: Subnet) -> bytes:
        return to_onnx(network, network.input_shape, batch=self.setting.batch)

    def _images(self, network: Subnet) -> dict[str, Any]:
        shape = (self.setting.batch, *network.input_shape)
        return {INPUT: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}

    def _session(self, model: bytes, trace: Path | None = None) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.setting.threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would time the machine's other work rather than the network's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace)
        return onnxruntime.InferenceSession(model, options, providers=[_PROVIDER])


class OnnxSession:
    """A network in ONNX Runtime."""

    def __init__(self, session: Any, images: dict[str, Any]) -> None:
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
        self, runtime: OnnxRuntime, model: bytes, images: dict[str, Any], blocks: int
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="nassearch-trace-")
        self._session = runtime._session(model, Path(self._directory.name) / "trace")
        self._images = images
        self._blocks = blocks

    def run(self) -> None:
        self._session.run(None, self._images)

    def finish(self) -> BlockTimes:
        path = Path(self._session.end_profiling())
        events = json.loads(path.read_text(encoding="utf-8"))
        del self._session
        self._directory.cleanup()
        return block_times(events, self._blocks)


def block_times(events: list[dict[str, Any]], blocks: int) -> BlockTimes:
    """What each block took in each run, from ONNX Runtime's trace.

    A node carries its block in its name. Nodes that ONNX Runtime adds between blocks (layout
    reorders) count for the block that asked for them: before it for inputs, after it for outputs.
    """
    runs = []
    times, counts = np.zeros(blocks), np.zeros(blocks, dtype=np.int64)
    current, pending = 0, 0.0
    for event in events:
        name = event["name"]
        if event.get("cat") == "Session" and name == "model_run":
            runs.append(times)
            times, current, pending = np.zeros(blocks), 0, 0.0
        elif event.get("cat") == "Node" and name.endswith("_kernel_time"):
            milliseconds = event["dur"] / 1e3
            match = _BLOCK.search(name)
            if match is not None:
                current = int(match.group(1))
            counts[current] += 1
            if match is not None:
                times[current] += milliseconds + pending
                pending = 0.0
            elif name.startswith("ReorderInput"):
                pending += milliseconds
            else:
                times[current] += milliseconds
    return BlockTimes(np.array(runs), counts // max(1, len(runs)))
