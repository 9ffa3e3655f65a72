"""A device that needs no device: latencies computed from costs, for tests of your own code."""

import hashlib
from collections.abc import Collection, Mapping
from typing import ClassVar

import numpy as np

from nassearch.networks import Subnet, block_cost
from nassearch.runtimes.runtime import BlockTimes, Floats
from nassearch.setting import MIXED, Setting
from nassearch.space import BlockSpec

OVERHEAD_MS = 0.01
MACS_PER_MS = 2e7
BYTES_PER_MS = 2e7
BORDER_MS = 0.005
ELEMENTS_PER_MS = 2e6
NOISE = 0.002


def fake_block_ms(spec: BlockSpec) -> float:
    """Milliseconds of one block: arithmetic, plus bytes moved, plus an overhead."""
    counted = block_cost(spec)
    moved = counted.weight_bytes + 2 * counted.activation_bytes
    return OVERHEAD_MS + counted.macs / MACS_PER_MS + moved / BYTES_PER_MS


def fake_network_ms(network: Subnet, setting: Setting) -> Floats:
    """Milliseconds of each block, (blocks,); in a mixed setting those in int8 take half of their
    time, and one that follows a block of another precision takes a border's time more.
    """
    block_ms = np.array([fake_block_ms(spec) for spec in network.specs])
    if setting.precision == MIXED and network.precisions is not None:
        before = network.precisions[0]
        for number, (spec, precision) in enumerate(
            zip(network.specs, network.precisions, strict=True)
        ):
            block_ms[number] /= 2 if precision == "int8" else 1
            if precision != before:
                elements = spec.in_channels * spec.resolution**2
                block_ms[number] += BORDER_MS + elements / ELEMENTS_PER_MS
            before = precision
    return block_ms * setting.batch


class FakeRuntime:
    """Deterministic: the n-th run of a network always takes the same time, within 0.2 %."""

    title: ClassVar[str] = "no engine: latencies computed from costs, for tests"
    precisions: ClassVar[Collection[str]] = ("fp32", "fp16", "int8", MIXED)
    mixable: ClassVar[tuple[str, ...]] = ("int8", "fp32")
    profiles_blocks: ClassVar[bool] = True
    on_gpu = False
    graph_formats: ClassVar[Mapping[str, str]] = {}

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.version = "fake 1"

    def load(self, network: Subnet) -> "FakeSession":
        return FakeSession(network, self.setting)

    def trace(self, network: Subnet) -> "FakeSession":
        return FakeSession(network, self.setting)


class FakeSession:
    """A network on the fake device; it can be timed as a whole and block by block."""

    def __init__(self, network: Subnet, setting: Setting) -> None:
        self._blocks = fake_network_ms(network, setting)
        text = "".join(spec.key for spec in network.specs)
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
        self._rng = np.random.default_rng(seed)
        self._runs: list[Floats] = []

    def run_ms(self) -> float:
        self._runs.append(self._blocks * (1 + NOISE * self._rng.uniform(-1, 1)))
        return float(self._runs[-1].sum())

    def finish(self) -> BlockTimes:
        return BlockTimes(np.array(self._runs), np.zeros(len(self._blocks), dtype=np.int64))
