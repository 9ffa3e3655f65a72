"""Devices nobody here owns: a roofline over datasheet rates, and never called anything else.

A layer takes the longer of its arithmetic at peak and its traffic at full bandwidth (Williams et
al., "Roofline", CACM 2009), plus a launch.
"""

from collections.abc import Callable

from nassearch.errors import TableError
from nassearch.latency.device import Device
from nassearch.latency.setting import Setting
from nassearch.networks import cost
from nassearch.networks.subnet import Layer
from nassearch.space import BlockSpec

BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}
# A roofline at peak rates is optimistic and nothing was measured: the interval is a factor of two.
RELATIVE_ERROR = 1.0


def roofline(device: Device, setting: Setting) -> Callable[[BlockSpec], float]:
    """Estimated milliseconds of a block on `device`; TableError where a rate is missing."""
    rates = device.rates
    if rates is None or setting.precision not in rates.peak_tflops:
        has = "no rates" if rates is None else f"rates for {', '.join(rates.peak_tflops)}"
        raise TableError(
            f"cannot be estimated: its device.yaml has {has}",
            where=setting,
            fix=f"measure it: nassearch profile --device {device.name}",
        )
    per_ms = rates.peak_tflops[setting.precision] * 1e9 / 2
    bytes_per_ms = rates.bandwidth_gb_s * 1e6
    overhead_ms = rates.launch_overhead_us / 1e3
    size = BYTES[setting.precision]

    def layer_ms(layer: Layer) -> float:
        moved = size * (layer.weights + setting.batch * (layer.inputs + layer.outputs))
        return overhead_ms + max(setting.batch * layer.macs / per_ms, moved / bytes_per_ms)

    def block_ms(spec: BlockSpec) -> float:
        return sum(times * layer_ms(layer) for layer, times in cost(spec).layers)

    return block_ms
