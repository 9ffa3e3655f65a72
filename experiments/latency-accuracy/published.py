"""Whole networks whose latencies NVIDIA publishes, and what the estimate says about them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from gpunets import FITTED, read_costs, read_rows
from scipy.optimize import minimize
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import SqueezeExcitation

from nassearch.latency.device import load_device
from nassearch.latency.efficiency import BYTES
from nassearch.latency.roofline import (
    DISPATCH_US,
    GPU_RELATIVE_ERROR,
    OVERLAP,
    PASSES,
    TORCH_RELATIVE_ERROR,
    layers_ms,
    relative_error,
)
from nassearch.networks.cost import Cost, count
from nassearch.setting import Setting

FILE = "nvidia_convnets/readme_tables.csv"
# (file, device, network, resolution, precision of each consecutive table in the section). Sections
# hold one table after another, each starting at batch 1; tables with XLA are left out.
TENSORFLOW = "TensorFlow/Classification/ConvNets/resnet50v1.5"
RESNEXT = "TensorFlow/Classification/ConvNets/resnext101"
SE_RESNEXT = "TensorFlow/Classification/ConvNets/se-resnext101"
TENSORFLOW2 = "TensorFlow2/Classification/ConvNets/efficientnet_v1"
PYTORCH = "PyTorch/Classification/ConvNets/resnet50v1.5"
A100, V100 = "/ Inference performance: NVIDIA DGX A100", "/ Inference performance: NVIDIA DGX-1"
SECTIONS = [
    (TENSORFLOW, "DGX A100", "a100", "resnet50", 224, ("tf32", None, "fp16", None)),
    (TENSORFLOW, "DGX-1", "v100", "resnet50", 224, ("fp32", "fp16", None)),
    (TENSORFLOW, "DGX-2", "v100", "resnet50", 224, ("fp32", "fp16", None)),
    (TENSORFLOW, "T4", "t4", "resnet50", 224, ("fp32", "fp16", None)),
    *(
        (file, section, device, network, 224, precisions)
        for file, network in ((RESNEXT, "resnext101_32x4d"), (SE_RESNEXT, "se_resnext101_32x4d"))
        for section, device, precisions in (
            ("DGX A100", "a100", ("tf32", None, "fp16", None)),
            ("DGX-1", "v100", ("fp32", "fp16", None)),
            ("DGX-2", "v100", ("fp32", "fp16", None)),
            ("T4", "t4", ("fp32", "fp16", None)),
        )
    ),
    (TENSORFLOW2, f"B0 {A100}", "a100", "efficientnet_b0", 224, ("fp16", "tf32")),
    (TENSORFLOW2, f"B4 {A100}", "a100", "efficientnet_b4", 380, ("fp16", "tf32")),
    (TENSORFLOW2, f"B0 {V100}", "v100", "efficientnet_b0", 224, ("fp16", "fp32")),
    (TENSORFLOW2, f"B4 {V100}", "v100", "efficientnet_b4", 380, ("fp16", "fp32")),
    (PYTORCH, "DGX-1 (1x V100 16GB) / FP32", "v100", "resnet50", 224, ("fp32",)),
    (PYTORCH, "DGX-1 (1x V100 16GB) / Mixed", "v100", "resnet50", 224, ("fp16",)),
    (PYTORCH, "T4 / FP32", "t4", "resnet50", 224, ("fp32",)),
    (PYTORCH, "T4 / Mixed", "t4", "resnet50", 224, ("fp16",)),
]  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One published row: batch / throughput, because averages hold warm-up outliers."""

    framework: str
    device: str
    network: str
    resolution: int
    precision: str
    batch: int
    measured_ms: float
    estimated_ms: float

    @property
    def error(self) -> float:
        return self.estimated_ms / self.measured_ms - 1

    @property
    def stated_error(self) -> float:
        """The relative error that the estimate states."""
        setting = Setting(self.device, self.framework, self.precision, self.batch, None)
        return relative_error(load_device(self.device), setting)


@lru_cache
def network_cost(name: str, resolution: int) -> Cost:
    """Layers of torchvision's network of that name, or of a ResNeXt-101 of 32 groups of 4."""
    network = (_resnext(name) if "resnext" in name else getattr(torchvision.models, name)()).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.inplace = False  # the form that the counter knows
    return count(network, torch.zeros(1, 3, resolution, resolution), name=name)


def _resnext(name: str) -> torch.nn.Module:
    """ResNeXt-101 32x4d (Xie et al., 2017); 'se_...' with squeeze-and-excitation, reduction 16."""
    block = SqueezedBottleneck if name.startswith("se_") else Bottleneck
    return ResNet(block, [3, 4, 23, 3], groups=32, width_per_group=4)


class SqueezedBottleneck(Bottleneck):
    """The residual bottleneck with an attention after its last norm (Hu et al., 2018)."""

    def __init__(self, inplanes: int, planes: int, *args: object, **kwargs: object) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        channels = planes * self.expansion
        self.bn3 = torch.nn.Sequential(self.bn3, SqueezeExcitation(channels, channels // 16))


def published(data: Path) -> Iterator[Published]:
    """Every row of `SECTIONS` with its estimate."""
    frame = pd.read_csv(data / FILE)
    for file, section, device, network, resolution, precisions in SECTIONS:
        chosen = frame[
            frame.file.str.startswith(file) & frame.section.str.contains(section, regex=False)
        ]
        counted = network_cost(network, resolution)
        table = -1
        for text in chosen.row:
            row = json.loads(text)
            batch = int(row.get("Batch Size", row.get("Batch size")))
            table += batch == 1
            precision = precisions[table]
            if precision is None:
                continue
            speed = next(value for name, value in row.items() if "hroughput" in name)
            measured = 1e3 * batch / float(str(speed).split()[0])
            framework = file.partition("/")[0].lower().replace("pytorch", "torch")
            estimated = estimate(counted, device, framework, precision, batch)
            yield Published(
                framework, device, network, resolution, precision, batch, measured, estimated
            )


def estimate(cost: Cost, device: str, framework: str, precision: str, batch: int) -> float:
    """Milliseconds of a network under a framework."""
    rates = load_device(device).rates
    assert rates is not None
    layers = [layer for layer, _ in cost.layers]
    times = np.array([number for _, number in cost.layers])
    setting = Setting(device, framework, precision, batch, None)
    return float(times @ layers_ms(layers, rates, setting))


class FrameworkFit:
    """The constants of `estimate.py` for frameworks, fitted on published rows by least absolute
    log error: dispatch of each framework and passes.
    """

    FRAMEWORKS = ("torch", "tensorflow", "tensorflow2")

    def __init__(self, rows: Sequence[Published], costs: Mapping[str, Cost]) -> None:
        self.rows = rows
        self._parts = [self._part(row, costs[row.network]) for row in rows]
        self.measured = np.array([row.measured_ms for row in rows])

    @staticmethod
    def _part(row: Published, cost: Cost) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(times, device us of an engine, us of one pass) of every layer."""
        rates = load_device(row.device).rates
        assert rates is not None
        layers = [layer for layer, _ in cost.layers]
        engine = Setting(row.device, "tensorrt", row.precision, row.batch, None)
        outputs = np.array([layer.outputs for layer in layers], dtype=np.float64)
        moved = BYTES[row.precision] * row.batch * outputs
        once = rates.launch_overhead_us + 2 * moved / (rates.bandwidth_gb_s * 1e3)
        times = np.array([number for _, number in cost.layers], dtype=np.float64)
        return times, 1e3 * layers_ms(layers, rates, engine), once

    def predict(self, constants: np.ndarray) -> np.ndarray:
        """Milliseconds of every row for log(dispatch us of each framework, passes)."""
        host = dict(zip(self.FRAMEWORKS, np.exp(constants[:3]), strict=True))
        found = []
        for row, (times, engine, once) in zip(self.rows, self._parts, strict=True):
            device = engine + np.exp(constants[3]) * once
            both = (device**OVERLAP + host[row.framework] ** OVERLAP) ** (1 / OVERLAP)
            found.append(float(times @ both) / 1e3)
        return np.array(found)

    def fit(self, chosen: np.ndarray) -> np.ndarray:
        """Constants from the rows that are `chosen`, (rows,) of truths.

        A framework without a row takes TensorFlow's dispatch.
        """
        present = {row.framework for row, kept in zip(self.rows, chosen, strict=True) if kept}

        def interpolate_missing(constants: np.ndarray) -> np.ndarray:
            values = constants.copy()
            for place, name in enumerate(self.FRAMEWORKS):
                if name not in present:
                    values[place] = constants[1]
            return values

        def loss(constants: np.ndarray) -> float:
            ratios = self.predict(interpolate_missing(constants))[chosen] / self.measured[chosen]
            return float(np.mean(np.abs(np.log(ratios))))

        start = np.log([200.0, 90.0, 120.0, 3.5])
        found = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 300, "xatol": 1e-3})
        return interpolate_missing(found.x)

    def left_out(self, chosen: np.ndarray, families: Sequence[str]) -> np.ndarray:
        """Factors - 1 of the chosen rows, each predicted by the fit on the other families."""
        names = np.array([row.network for row in self.rows])
        found = []
        for family in families:
            own = np.char.find(names, family) >= 0
            constants = self.fit(chosen & ~own)
            ratios = (self.predict(constants) / self.measured)[chosen & own]
            found.append(np.maximum(ratios, 1 / ratios) - 1)
        return np.concatenate(found)


class TorchFit:
    """PyTorch's dispatch, which is the host's: told by each family of networks, and between them.

    ResNet-50 on a V100 and a T4, and half of the GPUNets on a V100, at batch 1.
    """

    def __init__(self, rows: Sequence[Published], costs: Mapping[str, Cost]) -> None:
        self._fitting = FrameworkFit(rows, costs)
        self.rows, self.measured = rows, self._fitting.measured

    def ratios(self, dispatch_us: float) -> np.ndarray:
        """Predicted over measured of every row, with the passes that ship."""
        constants = np.log([dispatch_us, 1.0, 1.0, PASSES])
        return self._fitting.predict(constants) / self.measured

    def fit(self, families: Sequence[np.ndarray]) -> tuple[float, list[float]]:
        """The dispatch in microseconds between the families', (rows,) of truths each; and theirs.

        Each is of least absolute log error over its own rows; between them is the geometric mean.
        """
        tried = np.exp(np.arange(np.log(20), np.log(400), 0.02))
        errors = np.abs(np.log([self.ratios(float(us)) for us in tried]))
        own = [float(tried[np.argmin(errors[:, rows].mean(axis=1))]) for rows in families]
        return float(np.exp(np.mean(np.log(own)))), own


def gpunet_rows(data: Path, costs: Mapping[str, Cost]) -> list[Published]:
    """The GPUNets under PyTorch with their estimates."""
    return [
        Published(
            "torch",
            "v100",
            row.network,
            0,
            "fp16",
            row.batch,
            row.measured_ms,
            estimate(costs[row.network], "v100", "torch", "fp16", row.batch),
        )
        for row in read_rows(data)
        if row.runtime == "torch"
    ]


def torch_lines(data: Path, rows: Sequence[Published], costs: Mapping[str, Cost]) -> Iterator[str]:
    """PyTorch's dispatch between two hosts', and what it says of networks that were not fitted."""
    known = {**costs, **read_costs(data)}
    every = [row for row in rows if row.framework == "torch"] + gpunet_rows(data, known)
    names = np.array([row.network for row in every])
    fit = TorchFit(every, known)
    first, second = names == "resnet50", np.isin(names, FITTED)
    between, own = fit.fit((first, second))
    yield (
        f"torch: dispatch us {own[0]:.0f} of ResNet-50, {own[1]:.0f} of GPUNets,"
        f" between {between:.0f}"
    )
    apart = np.log(own[0] / own[1]) / 2
    within = np.exp(np.hypot(apart, np.log1p(GPU_RELATIVE_ERROR))) - 1
    yield (
        f"  half of what is between them, and ± {GPU_RELATIVE_ERROR:.0%} of networks, square to"
        f" ± {within:.0%}"
    )
    ratios = fit.ratios(DISPATCH_US["torch"])
    factors = np.maximum(ratios, 1 / ratios)
    for text, chosen in (
        ("ResNet-50", first),
        ("GPUNets, fitted", second),
        ("GPUNets, not fitted", ~first & ~second),
    ):
        covered = np.mean(factors[chosen] <= 1 + TORCH_RELATIVE_ERROR)
        yield (
            f"  {text}: predicted/measured {ratios[chosen].min():.2f} to"
            f" {ratios[chosen].max():.2f}, nine in ten within a factor of"
            f" {np.percentile(factors[chosen], 90):.2f}, the stated ± {TORCH_RELATIVE_ERROR:.0%}"
            f" covers {covered:.0%} of {chosen.sum()}"
        )
