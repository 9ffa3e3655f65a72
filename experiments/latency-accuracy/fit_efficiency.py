"""Fit the efficiency curves on public V100 TensorRT convolutions: `python fit_efficiency.py DATA`.

With `--call` the curves that ship stay, and only what a call of its own costs a layer is fitted, on
half of the networks of `gpunets.py`.

DATA is the folder with `v100_tensorrt_convs/{fp32,fp16,int8}.txt`
(alibaba/lightweight-neural-architecture-search, Apache-2.0). One convolution shape in five, with
all its batch sizes, is left out of the fit; the error is that of those. The curves that are
written come from that same fit.
"""

import argparse
import re
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nassearch.files import write_text
from nassearch.latency.device import RatesFile, load_device
from nassearch.latency.efficiency import (
    FILE,
    REACH,
    Curve,
    Efficiency,
    Layers,
    bound_us,
    dump_efficiency,
    load_efficiency,
    monomials,
    quantities,
)

SOURCE = (
    "about 91,000-101,000 single convolutions for each precision on an NVIDIA V100 under TensorRT,"
    " alibaba/lightweight-neural-architecture-search, Apache-2.0; one shape in five held out"
)
COLUMNS = [
    "type",
    "batch",
    "in_channels",
    "h",
    "w",
    "out_channels",
    "kernel",
    "stride",
    "added",
    "ms",
]
REWEIGHTINGS, SOFT, RIDGE = 5, 0.02, 1e-3


def read_convolutions(path: Path) -> pd.DataFrame:
    """One row for each convolution that was measured (-1 means it could not be run)."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\{(\w+),([\d,]+)\} ([-\d.e]+)", line.strip())
        if match is not None:
            rows.append([match[1], *map(int, match[2].split(",")), float(match[3])])
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame[frame.ms > 0].reset_index(drop=True)


def layers_of(frame: pd.DataFrame) -> Layers:
    out_pixels = np.ceil(frame.h / frame.stride) * np.ceil(frame.w / frame.stride)
    group = np.where(frame.type == "Depthwise", 1, frame.in_channels).astype(float)
    columns = [
        frame.batch,
        group,
        frame.out_channels,
        frame.kernel,
        out_pixels,
        frame.in_channels * frame.h * frame.w,
        frame.out_channels * out_pixels,
        group * frame.out_channels * frame.kernel**2,
        frame.stride > 1,
        frame.added,
    ]
    return Layers(*(np.asarray(column, dtype=np.float64) for column in columns))


def kinds_of(frame: pd.DataFrame) -> np.ndarray:
    regular = np.select([frame.kernel == 1, frame.kernel == 3], ["pointwise", "dense3"], "dense5")
    return np.where(frame.type == "Depthwise", "depthwise", regular)


def held_out(frame: pd.DataFrame) -> np.ndarray:
    """True for one shape in five, whatever its batch."""
    shapes = frame[["type", "in_channels", "h", "out_channels", "kernel", "stride"]]
    texts = shapes.astype(str).agg("-".join, axis=1)
    return np.array([zlib.crc32(text.encode()) % 5 == 0 for text in texts])


def fit_curve(values: np.ndarray, target: np.ndarray) -> Curve:
    """Least absolute errors by reweighting, with a small ridge."""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread < 1e-6, 1.0, spread)
    terms = monomials(np.clip((values - mean) / spread, -REACH, REACH))
    weights = np.ones(len(target))
    for _ in range(REWEIGHTINGS):
        weighted = (terms * weights[:, None]).T
        normal = weighted @ terms + RIDGE * np.eye(terms.shape[1])
        coefficients = np.linalg.solve(normal, weighted @ target)
        weights = 1 / np.maximum(np.abs(target - terms @ coefficients), SOFT)
        weights /= weights.mean()
    low, high = np.quantile(target, (0.001, 0.999))
    return Curve(mean, spread, float(low), float(high), coefficients)


def errors(efficiency: Efficiency, frame: pd.DataFrame, precision: str) -> np.ndarray:
    """Relative errors of the curves on convolutions."""
    kinds, found = kinds_of(frame), []
    for kind in np.unique(kinds):
        part = frame[kinds == kind]
        layers = layers_of(part)
        curve = efficiency.curves[precision, str(kind)]
        slowdown = curve.slowdown(quantities(layers, efficiency.rates, precision))
        bound = sum(bound_us(layers, efficiency.rates, precision))
        predicted = slowdown * (bound + efficiency.rates.launch_overhead_us) / 1e3
        found.append(np.abs(predicted / part.ms.to_numpy() - 1))
    return np.concatenate(found)


def fit(data: Path, rates: RatesFile) -> Efficiency:
    curves, errors = {}, {}
    for precision in ("fp32", "fp16", "int8"):
        frame = read_convolutions(data / "v100_tensorrt_convs" / f"{precision}.txt")
        kinds, out = kinds_of(frame), held_out(frame)
        found = []
        for kind in np.unique(kinds):
            part = frame[kinds == kind]
            layers, test = layers_of(part), out[kinds == kind]
            values = quantities(layers, rates, precision)
            bound = sum(bound_us(layers, rates, precision)) + rates.launch_overhead_us
            target = np.log(part.ms.to_numpy() * 1e3 / bound)
            curve = fit_curve(values[~test], target[~test])
            curves[precision, str(kind)] = curve
            error = np.abs(curve.slowdown(values[test]) / np.exp(target[test]) - 1)
            errors[f"{precision}/{kind}"] = float(np.median(error))
            found.append(error)
        errors[precision] = float(np.median(np.concatenate(found)))
    rounded = {name: round(error, 4) for name, error in errors.items()}
    return Efficiency(curves, rates, rounded, SOURCE)


def with_call(efficiency: Efficiency, data: Path) -> Efficiency:
    """The curves with what a call costs a layer, told by whole networks: these pay it not."""
    from gpunets import FITTED, CallFit

    source = (
        f"{', '.join(FITTED)} in fp16 at batch 1 to 64 on an NVIDIA V100 under TensorRT,"
        " NVIDIA/DeepLearningExamples, Apache-2.0; the other three networks held out"
    )
    launches = round(CallFit(data).fit(FITTED), 2)
    return replace(efficiency, call_launches=launches, call_source=source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--call", action="store_true", help="keep the curves that ship")
    given = parser.parse_args()
    path = Path("latency_tables") / FILE
    if given.call:
        efficiency = load_efficiency()
    else:
        rates = load_device("v100").rates
        assert rates is not None
        efficiency = fit(given.data, rates)
        write_text(path, dump_efficiency(efficiency))
        load_efficiency.cache_clear()
    efficiency = with_call(efficiency, given.data)
    write_text(path, dump_efficiency(efficiency))
    for name, error in efficiency.median_error.items():
        sys.stdout.write(f"{name}: median error {error:.1%} on held-out convolutions\n")
    sys.stdout.write(f"a call costs a layer {efficiency.call_launches:.2f} launches\n")


if __name__ == "__main__":
    main()
