"""PyTorch without an engine, operator by operator: what a user gets who deploys nothing."""

import sys
import time
from collections.abc import Collection, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nassearch.networks import Subnet
from nassearch.runtimes.runtime import BlockTimes, Floats
from nassearch.setting import Setting

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    """PyTorch eager: on CUDA where there is a GPU, else on the CPU with `threads` threads.

    The number of threads is PyTorch's own, of the whole process.
    """

    title: ClassVar[str] = "PyTorch, operator by operator"
    precisions: ClassVar[Collection[str]] = tuple(TYPES)
    profiles_blocks: ClassVar[bool] = True
    on_gpu = torch.cuda.is_available()
    wherever: ClassVar[bool] = True
    graph_formats: ClassVar[Mapping[str, str]] = {}
    compiled: ClassVar[bool] = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.version = f"torch {torch.__version__}"
        self.place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if setting.threads is not None and self.place.type == "cpu":
            torch.set_num_threads(setting.threads)

    def load(self, network: Subnet) -> "TorchSession":
        return TorchSession(self._ready(network), self.setting, self.place)

    def trace(self, network: Subnet) -> "TorchTrace":
        return TorchTrace(self._ready(network), self.setting, self.place)

    def _ready(self, network: Subnet) -> Subnet:
        if self.compiled:
            # every block is a frame of the same code: past the limit torch goes on uncompiled
            torch._dynamo.config.recompile_limit = sys.maxsize
            torch._dynamo.config.accumulated_recompile_limit = sys.maxsize
            for block in network.blocks:
                block.compile(dynamic=False)
        return network


class CompiledTorchRuntime(TorchRuntime):
    """PyTorch with each block compiled: no fusion from block to block, so that times add up."""

    title = "PyTorch, each block compiled"
    compiled = True


class TorchSession:
    """A network in PyTorch."""

    def __init__(self, network: Subnet, setting: Setting, place: torch.device) -> None:
        kind = TYPES[setting.precision]
        self.network = network.eval().to(place, kind)
        shape = (setting.batch, *network.input_shape)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(shape, generator=generator).to(place, kind)

    def run_ms(self) -> float:
        if self.images.is_cuda:
            return self._cuda_ms()
        start = time.perf_counter_ns()
        self.run()
        return (time.perf_counter_ns() - start) / 1e6

    def run(self) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self.network(self.images)
        return logits

    def _cuda_ms(self) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        self.run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


class TorchTrace:
    """A network in PyTorch whose blocks are run and timed one after the other."""

    def __init__(self, network: Subnet, setting: Setting, place: torch.device) -> None:
        self._session = TorchSession(network, setting, place)
        self._runs: list[Floats] = []

    def run_ms(self) -> float:
        on_gpu = self._session.images.is_cuda
        marks, numbers = [], []
        with torch.inference_mode():
            marks.append(_mark(on_gpu))
            for number, _ in self._session.network.steps(self._session.images):
                marks.append(_mark(on_gpu))
                numbers.append(number)
        blocks = len(self._session.network.blocks)
        times = np.diff(marks).astype(np.float64)
        self._runs.append(np.bincount(numbers, weights=times, minlength=blocks).astype(np.float64))
        return float(marks[-1] - marks[0])

    def finish(self) -> BlockTimes:
        blocks = len(self._session.network.blocks)
        return BlockTimes(np.array(self._runs), np.ones(blocks, dtype=np.int64))


def _mark(on_gpu: bool) -> float:
    """Milliseconds on a clock, once the GPU has done what it was asked for."""
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter_ns() / 1e6
