"""Networks as they are deployed: what a policy makes of their accuracy, without exporting them."""

from collections.abc import Callable

from torch import Tensor

from nassearch.data.dataset import Data
from nassearch.export.int8 import calibration_images
from nassearch.export.onnx_file import open_graph
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.quantization import quantize_blocks


def deployed(subnet: Subnet, *, data: Data) -> Callable[[Tensor], Tensor]:
    """The network that a subnet's policy makes of it, for any number of normalised images.

    Ranges of activations are those of the images that an export is calibrated with.
    """
    if subnet.precisions is None or "int8" not in subnet.precisions:
        return subnet
    images = calibration_images(data, subnet.input_shape[1])
    graph = to_onnx(subnet, subnet.input_shape, batch=None)
    return open_graph(quantize_blocks(graph, subnet.precisions, images.numpy()))
