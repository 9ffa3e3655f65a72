"""The ranges of a network's activations, in the form in which ONNX Runtime's quantizer keeps them.

They are taken once for an architecture, all tensors together, and serve every policy of it.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data
from torch import Tensor

from nassearch.errors import ConfigError, DataError
from nassearch.files import write_text
from nassearch.runtimes.simulation import SimulatedNetwork

Images = npt.NDArray[np.float32]
Method = Literal["minmax", "percentile"]
MIN_IMAGES = 8
PERCENTILE = 0.9999
"""The share of a tensor's values that the method percentile keeps in its range."""
_BINS = 4096
_BATCH = 64
_METHOD, _WEIGHTS = "nassearch_method", "nassearch_weights"


def measure_ranges(
    float_graph: onnx.ModelProto, images: Images, *, method: Method, path: Path, weights: str
) -> None:
    """Write the range of every float tensor of a graph on `images`, (n, c, h, w), to `path`.

    `weights` is the digest of the network that the file then is for.

    `minmax` is from the least to the largest value. `percentile` leaves out at each end half of the
    values beyond PERCENTILE (from histograms of 4096 bins), so that one outlier does not coarsen
    the steps of all others.
    """
    network = SimulatedNetwork(float_graph).eval()
    size = network.batch_size or _BATCH
    batches = [torch.from_numpy(part) for part in np.split(images, range(size, len(images), size))]
    found = _extremes(network, batches)
    if method == "percentile":
        found = _percentiles(network, batches, found)
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in found.items()
    }
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    write_text(path, json.dumps({**content, _METHOD: method, _WEIGHTS: weights}))


def _extremes(
    network: SimulatedNetwork, batches: Sequence[Tensor]
) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}

    def watch(name: str, value: Tensor) -> None:
        if value.dtype != torch.float32 or value.numel() == 0:
            return
        low, high = (float(end) for end in value.aminmax())
        before = found.get(name, (low, high))
        found[name] = (min(low, before[0]), max(high, before[1]))

    with torch.inference_mode():
        for batch in batches:
            network.observe(batch, watch)
    return found


def _percentiles(
    network: SimulatedNetwork,
    batches: Sequence[Tensor],
    extremes: dict[str, tuple[float, float]],
) -> dict[str, tuple[float, float]]:
    counts: dict[str, Tensor] = {}

    def watch(name: str, value: Tensor) -> None:
        low, high = extremes.get(name, (0.0, 0.0))
        if low < high and value.dtype == torch.float32:
            found = torch.histc(value, bins=_BINS, min=low, max=high)
            counts[name] = counts.get(name, torch.zeros(_BINS, dtype=torch.float64)) + found

    with torch.inference_mode():
        for batch in batches:
            network.observe(batch, watch)
    found = dict(extremes)
    for name, histogram in counts.items():
        low, high = extremes[name]
        share = (histogram.cumsum(0) / histogram.sum()).numpy()
        edges = np.linspace(low, high, _BINS + 1)
        tail = (1 - PERCENTILE) / 2
        first = int(np.searchsorted(share, tail, side="right"))
        last = int(np.searchsorted(share, 1 - tail, side="left"))
        found[name] = (float(edges[first]), float(edges[last + 1]))
    return found


def weights_digest(graph: onnx.GraphProto) -> str:
    """A hash of a network's float weights in their order, whatever they are called."""
    digest = hashlib.sha256()
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims:
            digest.update(str(tuple(tensor.dims)).encode())
            digest.update(numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()[:16]


def ranges_for(float_graph: bytes, ranges: Path, path: Path) -> None:
    """Write the ranges of a network to `path` as those of `float_graph`, the same one trained on.

    A network that learned under ranges is deployed with them: it counts on what they clamp.
    """
    content = json.loads(ranges.read_text(encoding="utf-8"))
    weights = weights_digest(onnx.load_from_string(float_graph).graph)
    write_text(path, json.dumps({**content, _WEIGHTS: weights}))


def check_ranges(path: Path, *, method: Method, weights: str) -> None:
    """ConfigError where the file holds ranges of another method or other weights, or none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = content.get(_METHOD, "minmax")  # written by ONNX Runtime itself
        found = content.get(_WEIGHTS, weights)
    except (ValueError, AttributeError, OSError) as error:
        raise ConfigError(
            "holds no ranges", where=path, fix="remove it, the ranges are measured again"
        ) from error
    if known != method:
        raise ConfigError(
            f"holds ranges by {known}, not by {method}",
            where=path,
            fix="name another file for them",
        )
    if found != weights:
        raise ConfigError(
            "holds the ranges of another network",
            where=path,
            fix="name a file of this network's own",
        )


def check_images(float_graph: onnx.ModelProto, images: Images) -> None:
    """DataError where there are too few images for ranges, or they are of another size."""
    dims = [item.dim_value for item in float_graph.graph.input[0].type.tensor_type.shape.dim]
    expected, given = tuple(dims[1:]), tuple(images.shape[1:])
    if given != expected:
        raise DataError(
            f"are {_size(given)}, the network takes {_size(expected)}",
            where="calibration images",
            fix="give images as the network takes them",
        )
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"are {len(images)}, too few to know how large activations get",
            where="calibration images",
            fix=f"give at least {MIN_IMAGES}",
        )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
