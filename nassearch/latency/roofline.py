"""Devices nobody here owns: datasheet rates and efficiency curves, and never called anything else.

A layer is bounded by its arithmetic at peak and its traffic at full bandwidth (Williams et al.,
"Roofline", CACM 2009), plus a launch; on a GPU a curve fitted on measured convolutions says how
far from that bound such a layer is (see `efficiency`). These were timed one by one and pay a call
each, which layers inside a network do not. A framework that runs operator by operator also pays for
the host's dispatch and for the passes over memory that an engine fuses away.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nassearch import config
from nassearch.errors import TableError
from nassearch.latency.device import Device, RatesFile
from nassearch.latency.efficiency import (
    BYTES,
    Layers,
    bound_us,
    kind_of,
    load_efficiency,
    quantities,
)
from nassearch.latency.table import how_to_measure
from nassearch.networks import block_cost
from nassearch.networks.cost import Layer
from nassearch.runtimes.runtime import Floats
from nassearch.setting import Setting
from nassearch.space import BlockSpec

# Nothing was checked on CPUs: the interval is a factor of two and a half.
RELATIVE_ERROR = 1.5
# What nine in ten published V100 and T4 networks stay below, each family of networks told by
# constants fitted on the others (`experiments/latency-accuracy/bench.py published`). No A100 row
# took part; those are what it was checked on. Grouped convolutions, of which no measurement was at
# hand, are left out: with them it would be 1.00.
GPU_RELATIVE_ERROR = 0.68
# No network in int8 was at hand on any GPU: an engine may run any of its layers in 16 bits instead,
# at half the rate.
INT8_RELATIVE_ERROR = 2 * (1 + GPU_RELATIVE_ERROR) - 1
# PyTorch's dispatch is the host's, and hosts differ: half of what is between the two below and the
# error above, squared and added as logarithms (the same bench prints it).
TORCH_RELATIVE_ERROR = 1.59
# Of frameworks that run operator by operator, fitted on published V100 and T4 networks (the same
# bench prints the fit): what the host takes to dispatch a convolution with the norm and the
# activation after it. PyTorch's lies between two hosts': 220 where ResNet-50 ran, 45 for GPUNets.
DISPATCH_US = {"torch": 99.0, "tensorflow": 81.0, "tensorflow2": 125.0}
PASSES = 4.1  # reads and writes of a layer's output by what is not fused into it
OVERLAP = 4.0  # host and device work side by side: the longer decides, both where they are alike
LEAST_LAUNCHES = 0.5  # no layer inside a network takes less than half of what a launch takes alone


def relative_error(device: Device, setting: Setting) -> float:
    """The validated relative error of this device's estimates in a setting.

    It admits what nothing at hand could tell: whole networks in int8, and hosts.
    """
    if device.rates is None or device.rates.kind != "gpu":
        return RELATIVE_ERROR
    errors = [GPU_RELATIVE_ERROR]
    errors += [TORCH_RELATIVE_ERROR] if setting.runtime == "torch" else []
    errors += [INT8_RELATIVE_ERROR] if setting.precision == "int8" else []
    return max(errors)


def roofline(device: Device, setting: Setting) -> Callable[[BlockSpec], float]:
    """Estimated milliseconds of a block on `device`; TableError where a rate is missing."""
    rates = checked_rates(device, setting)

    @lru_cache(maxsize=65536)
    def block_ms(spec: BlockSpec) -> float:
        counted = block_cost(spec).layers
        if not counted:
            return 0.0
        layers = [layer for layer, _ in counted]
        times = np.array([number for _, number in counted])
        return float(times @ layers_ms(layers, rates, setting))

    return block_ms


def checked_rates(device: Device, setting: Setting) -> RatesFile:
    """The device's rates, checked to speak of a setting.

    A datasheet speaks of one number of threads, that of the device's default setting, and of an
    engine that fuses layers, as those of the device's settings do; of a GPU also of the frameworks
    in `DISPATCH_US`.

    Raises:
        TableError: There are no rates, or they say nothing of the setting's precision, runtime or
            threads.
    """
    rates, fix = device.rates, how_to_measure(setting, "NAME")
    if rates is None or setting.precision not in rates.peak_tflops:
        has = "no rates" if rates is None else f"rates for {', '.join(rates.peak_tflops)}"
        raise TableError(f"cannot be estimated: its device.yaml has {has}", where=setting, fix=fix)
    runtimes = list(dict.fromkeys(s.runtime for s in (device.default, *device.settings)))
    if rates.kind == "gpu":
        runtimes += list(DISPATCH_US)
    if setting.runtime not in runtimes:
        raise TableError(
            f"cannot be estimated: its datasheet says nothing of the runtime {setting.runtime}"
            f"{config.nearest(setting.runtime, runtimes)}",
            where=setting,
            fix=f"it speaks of {', '.join(runtimes)}",
        )
    if setting.threads != device.default.threads:
        spoken = device.default.threads
        raise TableError(
            f"cannot be estimated: its datasheet says nothing of {setting.threads} threads",
            where=setting,
            fix=f"ask for --threads {spoken}" if spoken is not None else "leave --threads out",
        )
    return rates


def layers_ms(layers: Sequence[Layer], rates: RatesFile, setting: Setting) -> Floats:
    """Estimated milliseconds of each layer, (n,)."""
    kinds = np.array([kind_of(layer) for layer in layers])
    return columns_ms(Layers.of(layers, batch=setting.batch), kinds, rates, setting)


def columns_ms(
    table: Layers,
    kinds: npt.NDArray[np.str_],
    rates: RatesFile,
    setting: Setting,
    *,
    alone: bool = False,
) -> Floats:
    """Estimated milliseconds of layers given by the column, (n,), and of which curve each is.

    They are layers inside a network, or `alone`, each called by itself.
    """
    arithmetic, traffic = bound_us(table, rates, setting.precision)
    if rates.kind == "cpu":
        return (rates.launch_overhead_us + np.maximum(arithmetic, traffic)) / 1e3
    # how far from its bound a layer is on the device that was measured is taken to be so here too
    slowdown = np.ones(len(kinds))
    efficiency = load_efficiency()
    curves, followed = efficiency.curves, curve_precision(rates, setting.precision)
    values = quantities(table, efficiency.rates, followed)
    for kind in set(kinds):
        slowdown[kinds == kind] = curves[followed, kind].slowdown(values[kinds == kind])
    launch_us = rates.launch_overhead_us
    device_us = slowdown * (arithmetic + traffic + launch_us)
    if not alone:
        called_us = efficiency.call_launches * launch_us
        device_us = np.maximum(device_us - called_us, LEAST_LAUNCHES * launch_us)
    if setting.runtime in DISPATCH_US:
        moved = BYTES[setting.precision] * table.batch * table.outputs
        device_us += PASSES * (launch_us + 2 * moved / (rates.bandwidth_gb_s * 1e3))
        host_us = DISPATCH_US[setting.runtime]
        device_us = (device_us**OVERLAP + host_us**OVERLAP) ** (1 / OVERLAP)
    return device_us / 1e3


def curve_precision(rates: RatesFile, precision: str) -> str:
    """The curve a precision follows: fp16's wherever the arithmetic runs on tensor cores."""
    if precision == "int8":
        tensor = rates.peak_tflops["int8"] > rates.peak_tflops.get("fp16", 0.0)
        return "fp16" if tensor else "int8"
    return "fp32" if precision == "fp32" else "fp16"
