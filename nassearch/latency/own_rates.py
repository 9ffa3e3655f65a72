"""This machine's own rates, from three kinds of layer: what a datasheet says of other devices."""

from collections.abc import Sequence

from nassearch.latency.device import RatesFile
from nassearch.latency.efficiency import BYTES
from nassearch.networks import Subnet, block_cost
from nassearch.setting import Setting
from nassearch.space import BlockSpec
from nassearch.space.architecture import canonical_choices

_LEAST_MS = 1e-4
_MORE = 4


def probes() -> list[Subnet]:
    """Networks that tell a machine's rates: layers of arithmetic, of traffic, and tiny ones.

    Each is one convolution alone and a chain of more: what the chain takes longer is free of what
    an engine does once, before and after a network.
    """
    layers = (
        _convolution(256, kernel=3, pixels=28),
        _convolution(16, kernel=1, pixels=256),
        _convolution(8, kernel=1, pixels=8),
    )
    return [Subnet([layer] * count).eval() for layer in layers for count in (1, 1 + _MORE)]


def own_rates(times_ms: Sequence[float], networks: Sequence[Subnet], setting: Setting) -> RatesFile:
    """The rates that the times of `probes` tell, in a setting."""
    pairs = zip(times_ms[::2], times_ms[1::2], strict=True)
    arithmetic_ms, traffic_ms, launch_ms = (
        max(_LEAST_MS, (chain - alone) / _MORE) for alone, chain in pairs
    )
    dense, thin = (block_cost(network.specs[0]).layers[0][0] for network in networks[:4:2])
    moved = BYTES[setting.precision] * setting.batch * (thin.inputs + thin.outputs)
    return RatesFile(
        peak_tflops={setting.precision: 2 * setting.batch * dense.macs / (arithmetic_ms * 1e9)},
        bandwidth_gb_s=moved / (traffic_ms * 1e6),
        on_chip_mb=1,
        launch_overhead_us=1e3 * launch_ms,
        kind="cpu",
        source="measured here, with three convolutions",
    )


def _convolution(channels: int, *, kernel: int, pixels: int) -> BlockSpec:
    choices = canonical_choices({"kernel_size": kernel, "activation": "relu"})
    return BlockSpec("conv", channels, channels, pixels, 1, choices)
