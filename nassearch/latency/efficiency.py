"""Efficiency curves: what share of a processor's peak rates a layer reaches, by kind of operator.

A curve is a cubic polynomial over what a layer is on the device that was measured; on a device of
other rates the same layer is taken to reach the same share of them.
`latency_tables/efficiency.json` holds the coefficients with their source and their error on
convolutions that were not fitted, and what a call of its own costs a layer, which no layer inside a
network pays.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nassearch import config
from nassearch.errors import TableError
from nassearch.files import read_json
from nassearch.latency.device import RatesFile
from nassearch.networks.cost import Layer
from nassearch.runtimes.runtime import Floats

FILE = "efficiency.json"
KINDS = ("pointwise", "dense3", "dense5", "depthwise")
BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}
NUM_NUMBERS = 8  # of `quantities`; what follows them is 0 or 1
VECTOR_CHANNELS = 8
REACH = 3.0  # standard deviations around the fitted layers within which a curve is followed
_TILE_PIXELS, _TILE_CHANNELS = 128, 64


@dataclass(frozen=True)
class Layers:
    """Layers by the column: per-image sizes of n layers, and the batch they run with."""

    batch: Floats
    group_channels: Floats
    out_channels: Floats
    kernel: Floats
    pixels: Floats
    inputs: Floats
    outputs: Floats
    weights: Floats
    strided: Floats
    added: Floats

    @classmethod
    def of(cls, layers: Sequence[Layer], *, batch: int) -> "Layers":
        """The layers of a network; `added` (a residual fused into the layer) is not known: 0."""

        def column(values: Sequence[float]) -> Floats:
            return np.array(values, dtype=np.float64)

        out_pixels = [layer.outputs / layer.out_channels for layer in layers]
        in_pixels = [layer.inputs / layer.in_channels for layer in layers]
        return cls(
            column([batch] * len(layers)),
            column([layer.macs / (layer.outputs * layer.kernel**2) for layer in layers]),
            column([layer.out_channels for layer in layers]),
            column([layer.kernel for layer in layers]),
            column(out_pixels),
            column([layer.inputs for layer in layers]),
            column([layer.outputs for layer in layers]),
            column([layer.weights for layer in layers]),
            column([a > 1.5 * b for a, b in zip(in_pixels, out_pixels, strict=True)]),
            column([0.0] * len(layers)),
        )

    @property
    def macs(self) -> Floats:
        return self.batch * self.outputs * self.group_channels * self.kernel**2

    def elements(self) -> Floats:
        """Elements read and written."""
        return self.weights + self.batch * (self.inputs + self.outputs * (1 + self.added))


def bound_us(layers: Layers, rates: RatesFile, precision: str) -> tuple[Floats, Floats]:
    """Microseconds of the arithmetic at peak and of the traffic at full bandwidth, (n,) each."""
    arithmetic = 2 * layers.macs / (rates.peak_tflops[precision] * 1e6)
    traffic = BYTES[precision] * layers.elements() / (rates.bandwidth_gb_s * 1e3)
    return arithmetic, traffic


def quantities(layers: Layers, rates: RatesFile, precision: str) -> Floats:
    """What decides the efficiency of a layer, (n, quantities): eight numbers, then flags.

    Arithmetic and traffic in units of a launch; channels; pixels of each processor; how many waves
    of tiles the processors work through and how full the last is; kernel; stride, residual,
    channels that do not fill one vector or a last tile. Whether they are a multiple of a vector is
    not asked: of the layers fitted hardly any but images have odd channels, and a curve that took
    these for the reason was 10 to 30 times too slow on 500 odd channels.
    """
    arithmetic, traffic = bound_us(layers, rates, precision)
    pixels = layers.batch * layers.pixels
    tiles = np.ceil(pixels / _TILE_PIXELS) * np.ceil(layers.out_channels / _TILE_CHANNELS)
    waves = tiles / rates.processors
    return np.column_stack(
        [
            np.log(0.1 + arithmetic / rates.launch_overhead_us),
            np.log(traffic / rates.launch_overhead_us),
            np.log(layers.group_channels),
            np.log(layers.out_channels),
            np.log(pixels / rates.processors),
            np.log(np.maximum(waves, 1.0)),
            np.minimum(np.log(np.ceil(waves) / waves), 3.0),
            np.log(layers.kernel),
            layers.strided,
            layers.added,
            layers.group_channels < VECTOR_CHANNELS,
            layers.out_channels % _TILE_CHANNELS != 0,
        ]
    )


def monomials(scaled: Floats) -> Floats:
    """Products of up to three columns of (n, quantities), (n, terms).

    A flag is never squared, and among three factors at most one is a flag.
    """
    columns = [np.ones(len(scaled))]
    for degree in (1, 2, 3):
        for factors in itertools.combinations_with_replacement(range(scaled.shape[1]), degree):
            flags = [factor for factor in factors if factor >= NUM_NUMBERS]
            if len(flags) > (1 if degree == 3 else 2) or len(set(flags)) < len(flags):
                continue
            columns.append(np.prod(scaled[:, factors], axis=1))
    return np.column_stack(columns)


@dataclass(frozen=True)
class Curve:
    """log(time / bound) = polynomial of the scaled quantities, held within the fitted range."""

    mean: Floats
    spread: Floats
    low: float
    high: float
    coefficients: Floats

    def slowdown(self, values: Floats) -> Floats:
        """How many times longer than the bound a layer takes, (n,), for `quantities`."""
        scaled = np.clip((values - self.mean) / self.spread, -REACH, REACH)
        return np.exp(np.clip(monomials(scaled) @ self.coefficients, self.low, self.high))


@dataclass(frozen=True)
class Efficiency:
    """Curves by precision and kind of layer, the rates of the device they were fitted on, and their
    median error on convolutions that were not fitted.

    The curves are of layers timed one by one. `call_launches` is what that costs each beside its
    work, in launches, fitted on whole networks; `call_source` says which.
    """

    curves: Mapping[tuple[str, str], Curve]
    rates: RatesFile
    median_error: Mapping[str, float]
    source: str
    call_launches: float = 0.0
    call_source: str = ""


def kind_of(layer: Layer) -> str:
    """The curve that a layer follows."""
    if layer.kind in ("depthwise", "grouped"):
        return "depthwise"
    if layer.kernel == 1:
        return "pointwise"
    return "dense3" if layer.kernel == 3 else "dense5"


@lru_cache(maxsize=1)
def load_efficiency() -> Efficiency:
    """The curves that ship."""
    for directory in config.data_directories("latency_tables"):
        path = directory / FILE
        if path.is_file():
            return read_efficiency(path)
    raise TableError("is not there", where=f"latency_tables/{FILE}", fix="install nassearch again")


def read_efficiency(path: Path) -> Efficiency:
    """The curves in a file; TableError where it is damaged."""
    content = read_json(path)
    try:
        curves = {}
        for name, curve in content["curves"].items():
            precision, kind = name.split("/")
            curves[precision, kind] = Curve(
                np.array(curve["mean"]),
                np.array(curve["spread"]),
                float(curve["low"]),
                float(curve["high"]),
                np.array(curve["coefficients"]),
            )
        rates = config.parse(RatesFile, content["rates"], where=f"{path}: rates")
        return Efficiency(
            curves,
            rates,
            dict(content["median_error"]),
            str(content["source"]),
            float(content.get("call_launches", 0.0)),
            str(content.get("call_source", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(
            f"is not a file of efficiency curves ({error!r})",
            where=path,
            fix="remove it, so that the one that ships is used",
        ) from error


def dump_efficiency(efficiency: Efficiency) -> str:
    """The file's text, numbers to four digits, one curve a line."""

    def short(values: Floats) -> list[float]:
        return [float(f"{value:.4g}") for value in values]

    lines = [
        f"  {json.dumps('/'.join(name))}: "
        + json.dumps(
            {
                "mean": short(curve.mean),
                "spread": short(curve.spread),
                "low": float(f"{curve.low:.4g}"),
                "high": float(f"{curve.high:.4g}"),
                "coefficients": short(curve.coefficients),
            }
        )
        for name, curve in efficiency.curves.items()
    ]
    head = json.dumps(
        {
            "source": efficiency.source,
            "rates": efficiency.rates.model_dump(),
            "median_error": dict(efficiency.median_error),
            "call_launches": efficiency.call_launches,
            "call_source": efficiency.call_source,
        },
        indent=1,
    )
    return head.removesuffix("\n}") + ',\n "curves": {\n' + ",\n".join(lines) + "\n }\n}\n"
