"""Whole networks on a V100 under TensorRT: GPUNets (Wang et al., "GPUNet", CVPR 2022), as NVIDIA
publishes their layers and latencies (NVIDIA/DeepLearningExamples, Apache-2.0).

Half of the networks tell what a call of its own costs a layer, which layers inside a network do not
pay; the other half are what that is checked on.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nassearch.latency.device import load_device
from nassearch.latency.efficiency import Layers, kind_of
from nassearch.latency.roofline import LEAST_LAUNCHES, columns_ms, layers_ms
from nassearch.networks.cost import Cost, count
from nassearch.setting import Setting
from nassearch.space.architecture import make_divisible

FOLDER = "gpunet_v100"
DISTILLED_TAIL = 1152  # channels between the distilled networks' two last 1x1 convolutions
FITTED = ("GPUNet-0", "GPUNet-2", "GPUNet-D2", "GPUNet-P1")
"""Every second network of the file; the others are not fitted."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)
A100_MS = {
    "GPUNet-0": (0.46, 0.51, 0.66, 0.91, 1.52, 2.84, 5.12),
    "GPUNet-1": (0.59, 0.66, 0.78, 1.03, 1.60, 2.79, 5.14),
    "GPUNet-2": (1.25, 1.44, 1.89, 2.79, 4.59, 8.04, 14.76),
    "GPUNet-D1": (0.94, 1.26, 1.94, 3.28, 6.12, 11.64, 22.49),
    "GPUNet-D2": (1.40, 2.11, 3.55, 6.54, 12.38, 23.76, 46.28),
    "GPUNet-P0": (0.45, 0.50, 0.60, 0.82, 1.26, 2.21, 4.12),
    "GPUNet-P1": (0.61, 0.72, 0.94, 1.43, 2.34, 4.31, 8.20),
}
"""The same networks on an A100 80GB at BATCHES, from the same tables of the same repository (server
compute infer, offline scenario): nothing is fitted on them."""
LAUNCHES = np.arange(0.0, 8.0, 0.05)
KINDS = ("pointwise", "depthwise", "dense")
RUNTIMES = {"onnxruntime-tensorrt (Triton)": "tensorrt", "pytorch": "torch"}


@dataclass(frozen=True)
class Timed:
    """One published row: a network in fp16, its batch and what it took."""

    network: str
    runtime: str
    batch: int
    measured_ms: float


def read_rows(data: Path) -> list[Timed]:
    """Every published row."""
    frame = pd.read_csv(data / FOLDER / "networks.csv")
    return [
        Timed(row.network, RUNTIMES.get(row.runtime, row.runtime), int(row.batch), float(row.ms))
        for row in frame.itertuples()
    ]


def read_costs(data: Path, networks: Sequence[str] = tuple(A100_MS)) -> dict[str, Cost]:
    """The layers of each network."""
    frame = pd.read_csv(data / FOLDER / "networks.csv").drop_duplicates("network")
    frame = frame[frame.network.isin(networks)]
    return {
        row.network: _cost(data / FOLDER / "configs" / row.config) for row in frame.itertuples()
    }


def estimate(cost: Cost, device: str, *, batch: int) -> float:
    """Milliseconds of a network in TensorRT and fp16, as they are estimated."""
    rates = load_device(device).rates
    assert rates is not None
    times = np.array([number for _, number in cost.layers])
    setting = Setting(device, "tensorrt", "fp16", batch, None)
    return float(times @ layers_ms([layer for layer, _ in cost.layers], rates, setting))


class CallFit:
    """What a call costs a layer beside its work, told by the rows of networks in TensorRT."""

    def __init__(self, data: Path, device: str = "v100") -> None:
        rates = load_device(device).rates
        assert rates is not None
        self.launch_us = rates.launch_overhead_us
        self.rows = [row for row in read_rows(data) if row.runtime == "tensorrt"]
        if device == "a100":
            self.rows = [
                Timed(name, "tensorrt", batch, ms)
                for name, times in A100_MS.items()
                for batch, ms in zip(BATCHES, times, strict=True)
            ]
        self.networks = tuple(dict.fromkeys(row.network for row in self.rows))
        self.names = np.array([row.network for row in self.rows])
        self.batches = np.array([row.batch for row in self.rows])
        self.measured_ms = np.array([row.measured_ms for row in self.rows])
        self.costs = read_costs(data)
        self._parts = []
        for row in self.rows:
            counted = self.costs[row.network].layers
            layers = [layer for layer, _ in counted]
            kinds = np.array([kind_of(layer) for layer in layers])
            setting = Setting(device, "tensorrt", "fp16", row.batch, None)
            table = Layers.of(layers, batch=row.batch)
            alone = 1e3 * columns_ms(table, kinds, rates, setting, alone=True)
            self._parts.append((np.array([n for _, n in counted]), alone, kinds))

    def predict(self, launches: float | dict[str, float]) -> np.ndarray:
        """Milliseconds of every row where a call costs so many launches, of each kind perhaps."""
        found = []
        for times, alone, kinds in self._parts:
            called = launches
            if isinstance(launches, dict):
                called = np.array([launches.get(kind, launches["dense"]) for kind in kinds])
            inside = np.maximum(alone - called * self.launch_us, LEAST_LAUNCHES * self.launch_us)
            found.append(float(times @ inside) / 1e3)
        return np.array(found)

    def fit(self, fitted: Sequence[str]) -> float:
        """The launches of least absolute log error over the networks that are `fitted`."""
        chosen = np.isin(self.names, fitted)
        losses = np.abs(np.log(self._table / self.measured_ms))[:, chosen].mean(axis=1)
        return float(LAUNCHES[np.argmin(losses)])

    def fit_kinds(self, fitted: Sequence[str]) -> dict[str, float]:
        """The same for each kind of layer, one after the other until none changes."""
        chosen = np.isin(self.names, fitted)
        launches = dict.fromkeys(KINDS, self.fit(fitted))
        for _, kind in itertools.product(range(3), KINDS):
            losses = [
                np.abs(np.log(self.predict({**launches, kind: n}) / self.measured_ms))[
                    chosen
                ].mean()
                for n in LAUNCHES[::4]
            ]
            launches[kind] = float(LAUNCHES[::4][int(np.argmin(losses))])
        return launches

    @cached_property
    def _table(self) -> np.ndarray:
        """The prediction for each of LAUNCHES, (launches, rows)."""
        return np.array([self.predict(float(number)) for number in LAUNCHES])

    def halves(self) -> Iterator[tuple[str, ...]]:
        """Every way to take four of the seven networks."""
        return itertools.combinations(self.networks, 4)


def _cost(path: Path) -> Cost:
    first, *layers = json.loads(path.read_text(encoding="utf-8"))
    blocks = [_block(layer, distilled=bool(first["distill"])) for layer in layers]
    pixels = int(first["img_resolution"])
    network = nn.Sequential(*blocks)
    return count(network, torch.zeros(1, 3, pixels, pixels), name=path.stem)


def _block(layer: dict[str, Any], *, distilled: bool) -> nn.Module:
    kind = layer["layer_type"]
    wide_in, wide_out = layer["num_in_channels"], layer["num_out_channels"]
    if kind in ("head", "head_large"):
        more = 2 if kind == "head_large" else 0
        convolutions = [_conv(wide_in, wide_out, 3, stride=2)]
        convolutions += [_conv(wide_out, wide_out, 3) for _ in range(more)]
        return nn.Sequential(*convolutions)
    if kind == "conv":
        return _conv(wide_in, wide_out, layer["kernel_size"], stride=layer["stride"])
    if kind == "tail":
        linear = nn.Linear(wide_out, layer["num_classes"])
        if not distilled:
            last: list[nn.Module] = [_conv(wide_in, wide_out, 1), nn.AdaptiveAvgPool2d(1)]
        else:
            last = [_conv(wide_in, DISTILLED_TAIL, 1), nn.AdaptiveAvgPool2d(1)]
            last.append(nn.Conv2d(DISTILLED_TAIL, wide_out, 1))
        return nn.Sequential(*last, nn.Flatten(), linear)
    return Inverted(layer, distilled=distilled, fused=kind == "fused_irb")


def _conv(
    wide_in: int, wide_out: int, kernel: int, *, stride: int = 1, groups: int = 1, pads: bool = True
) -> nn.Conv2d:
    padding = kernel // 2 if pads else 0
    return nn.Conv2d(wide_in, wide_out, kernel, stride, padding, groups=groups, bias=False)


class Inverted(nn.Module):
    """An inverted residual, its expansion kept at ratio 1; fused, one dense convolution expands.

    Strided dense ones have no padding: so the published code builds them.
    """

    def __init__(self, layer: dict[str, Any], *, distilled: bool, fused: bool) -> None:
        super().__init__()
        wide_in, wide_out = layer["num_in_channels"], layer["num_out_channels"]
        stride, kernel, ratio = layer["stride"], layer["kernel_size"], layer["expansion"]
        mid = wide_in * ratio if distilled else make_divisible(wide_in * ratio)
        if fused:
            body = [_conv(wide_in, mid, kernel, stride=stride, pads=distilled or stride == 1)]
        else:
            body = [_conv(wide_in, mid, 1), _conv(mid, mid, kernel, stride=stride, groups=mid)]
        self.body = nn.Sequential(*body)
        self.squeeze = nn.Identity()
        if layer.get("use_se"):
            squeezed = round(mid * 0.25 / ratio)
            self.squeeze = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(mid, squeezed, 1), nn.Conv2d(squeezed, mid, 1)
            )
        self.gated = bool(layer.get("use_se"))
        self.project = _conv(mid, wide_out, 1)
        self.residual = stride == 1 and wide_in == wide_out

    def forward(self, images: Tensor) -> Tensor:
        out = self.body(images)
        if self.gated:
            out = out * self.squeeze(out)
        out = self.project(out)
        return images + out if self.residual else out
