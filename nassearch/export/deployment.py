"""Networks as a policy deploys them: what it makes of their accuracy, without exporting them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from nassearch.data.dataset import Data
from nassearch.export.int8 import calibration_images
from nassearch.export.onnx_file import open_graph
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantize_blocks
from nassearch.runtimes.simulation import SimulatedNetwork, simulate
from nassearch.setting import INT8


def deployed(subnet: Subnet, *, data: Data) -> Callable[[Tensor], Tensor]:
    """The network that a subnet's policy makes of it, for any number of normalised images.

    On a CPU ONNX Runtime runs its graph, faster than PyTorch the float one (measured: 3.3 s an
    evaluation against 3.9); elsewhere PyTorch simulates it, to two quantization steps.
    """
    if subnet.precisions is None or INT8 not in subnet.precisions:
        return subnet
    device = next(subnet.parameters()).device
    if device.type == "cpu":
        return open_graph(_quantized_graph(subnet, subnet.precisions, data))
    return simulated_network(subnet.cpu(), subnet.precisions, data).to(device)


def simulated_network(
    subnet: Subnet, precisions: Sequence[str], data: Data, *, ranges: Path | None = None
) -> SimulatedNetwork:
    """What an export of a subnet by a policy computes, in PyTorch, under ranges of a file or of its
    own.
    """
    return simulate(_quantized_graph(subnet, precisions, data, ranges=ranges))


def _quantized_graph(
    subnet: Subnet, precisions: Sequence[str], data: Data, *, ranges: Path | None = None
) -> bytes:
    """Ranges of activations are those of the images that an export is calibrated with."""
    images = calibration_images(data, subnet.input_shape[1])
    graph = to_onnx(subnet, subnet.input_shape, batch=None)
    return quantize_blocks(graph, precisions, images.numpy(), ranges=ranges)
