"""Whole networks whose latencies NVIDIA publishes, and what the estimate says about them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision

from nassearch.latency.device import load_device
from nassearch.latency.estimate import layers_ms
from nassearch.latency.setting import Setting
from nassearch.networks.subnet import Cost, count

FILE = "nvidia_convnets/readme_tables.csv"
# (file, device, network, resolution, precision of each consecutive table in the section). Sections
# hold one table after another, each starting at batch 1; tables with XLA are left out.
TENSORFLOW = "TensorFlow/Classification/ConvNets/resnet50v1.5"
TENSORFLOW2 = "TensorFlow2/Classification/ConvNets/efficientnet_v1"
PYTORCH = "PyTorch/Classification/ConvNets/resnet50v1.5"
A100, V100 = "/ Inference performance: NVIDIA DGX A100", "/ Inference performance: NVIDIA DGX-1"
SECTIONS = [
    (TENSORFLOW, "DGX A100", "a100", "resnet50", 224, ("tf32", None, "fp16", None)),
    (TENSORFLOW, "DGX-1", "v100", "resnet50", 224, ("fp32", "fp16", None)),
    (TENSORFLOW, "DGX-2", "v100", "resnet50", 224, ("fp32", "fp16", None)),
    (TENSORFLOW, "T4", "t4", "resnet50", 224, ("fp32", "fp16", None)),
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
    precision: str
    batch: int
    measured_ms: float
    estimated_ms: float

    @property
    def error(self) -> float:
        return self.estimated_ms / self.measured_ms - 1


def network_cost(name: str, resolution: int) -> Cost:
    """Layers of torchvision's network of that name."""
    network = getattr(torchvision.models, name)().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.inplace = False  # the form that the counter knows
    return count(network, torch.zeros(1, 3, resolution, resolution), name=name)


def published(data: Path) -> Iterator[Published]:
    """Every row of `SECTIONS` with its estimate."""
    frame = pd.read_csv(data / FILE)
    costs: dict[str, Cost] = {}
    for file, section, device, network, resolution, precisions in SECTIONS:
        chosen = frame[
            frame.file.str.contains(file, regex=False)
            & frame.section.str.contains(section, regex=False)
        ]
        if network not in costs:
            costs[network] = network_cost(network, resolution)
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
            framework = "torch" if file.startswith("PyTorch") else "tensorflow"
            estimated = estimate(costs[network], device, framework, precision, batch)
            yield Published(framework, device, network, precision, batch, measured, estimated)


def estimate(cost: Cost, device: str, framework: str, precision: str, batch: int) -> float:
    """Milliseconds of a network under a framework."""
    rates = load_device(device).rates
    assert rates is not None
    layers = [layer for layer, _ in cost.layers]
    times = np.array([number for _, number in cost.layers])
    setting = Setting(device, framework, precision, batch, None)
    return float(times @ layers_ms(layers, rates, setting))
