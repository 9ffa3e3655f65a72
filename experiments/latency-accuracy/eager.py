"""Single operators of PyTorch on an A100 and a V100 (sitar-lab/NeuSight, MIT), and their estimate.

3x3 convolutions and linear layers in fp32 without TF32. No curve was fitted on them: the V100's
tell what a framework's libraries and its dispatch add to an engine, the A100's whether a layer
reaches the same share of another device's rates.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from fit_efficiency import kinds_of, layers_of
from scipy.optimize import minimize

from nassearch.latency.device import RatesFile, load_device
from nassearch.latency.efficiency import Layers
from nassearch.latency.roofline import OVERLAP, columns_ms
from nassearch.setting import Setting

FOLDER = "gpu_ops_pytorch_fp32"
CONVOLUTIONS = {"v100": "conv_Tesla_V100-PCIE-32GB", "a100": "conv_NVIDIA_A100_80GB_PCIe"}
LINEARS = {"v100": "linear_Tesla_V100-PCIE-32GB", "a100": "linear_NVIDIA_A100-PCIE-40GB"}
# These very cards where they are not those of our device.yaml (NVIDIA's datasheets of both).
CARDS: Mapping[str, Mapping[str, float]] = {
    "v100 convolutions": {"fp32": 14.0},
    "v100 linears": {"fp32": 14.0},
    "a100 convolutions": {"bandwidth_gb_s": 1935},
}


class Operators:
    """One kind of operator on one device: `measured_ms` and the engine's `estimated_ms`, (n,)."""

    def __init__(self, data: Path, device: str, kind: str) -> None:
        names = CONVOLUTIONS if kind == "convolutions" else LINEARS
        frame = pd.read_csv(data / FOLDER / f"{names[device]}.csv")
        read = _convolutions if kind == "convolutions" else _linears
        table, kinds = read(frame)
        self.measured_ms = frame.Latency.to_numpy(dtype=np.float64)
        rates = _rates(device, CARDS.get(f"{device} {kind}", {}))
        engine = Setting(device, "tensorrt", "fp32", 1, None)
        self.estimated_ms = columns_ms(table, kinds, rates, engine, alone=True)

    def predict(self, constants: np.ndarray) -> np.ndarray:
        """Milliseconds for log(factor of the libraries, milliseconds of dispatch)."""
        factor, dispatch_ms = np.exp(constants)
        return ((factor * self.estimated_ms) ** OVERLAP + dispatch_ms**OVERLAP) ** (1 / OVERLAP)

    def fit(self) -> np.ndarray:
        """The constants of least absolute log error."""

        def loss(constants: np.ndarray) -> float:
            return float(np.mean(np.abs(np.log(self.predict(constants) / self.measured_ms))))

        return minimize(loss, np.log([1.0, 0.05]), method="Nelder-Mead").x

    def ratios(self, constants: np.ndarray) -> np.ndarray:
        return self.predict(constants) / self.measured_ms


def _rates(device: str, card: Mapping[str, float]) -> RatesFile:
    rates = load_device(device).rates
    assert rates is not None
    peak = {**rates.peak_tflops, **{name: v for name, v in card.items() if name == "fp32"}}
    bandwidth = card.get("bandwidth_gb_s", rates.bandwidth_gb_s)
    return rates.model_copy(update={"peak_tflops": peak, "bandwidth_gb_s": bandwidth})


def _convolutions(frame: pd.DataFrame) -> tuple[Layers, np.ndarray]:
    columns = pd.DataFrame(
        {
            "type": "Regular",
            "batch": frame.B,
            "in_channels": frame.Input_Channel,
            "h": frame.Input_Size,
            "w": frame.Input_Size,
            "out_channels": frame.Output_Channel,
            "kernel": frame.Kernel_Szie,  # sic
            "stride": frame.Stride,
            "added": 0,
        }
    )
    return layers_of(columns), kinds_of(columns)


def _linears(frame: pd.DataFrame) -> tuple[Layers, np.ndarray]:
    """(batch, M, K) times (K, N): pointwise convolutions of M pixels."""
    rows = [
        frame.B,
        frame.K,
        frame.N,
        np.ones(len(frame)),
        frame.M,
        frame.K * frame.M,
        frame.N * frame.M,
        frame.K * frame.N,
        np.zeros(len(frame)),
        np.zeros(len(frame)),
    ]
    table = Layers(*(np.asarray(row, dtype=np.float64) for row in rows))
    return table, np.full(len(frame), "pointwise")
