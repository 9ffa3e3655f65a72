"""Quantization-aware recovery: an export's network is trained as its int8 graph computes."""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nassearch.data.dataset import Data
from nassearch.export.deployment import simulated_network
from nassearch.export.export_config import ExportConfig
from nassearch.networks import Subnet
from nassearch.networks.norm_folding import fold_norms
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.activation_ranges import ranges_for
from nassearch.runtimes.quantization import node_modules, quantize_blocks
from nassearch.runtimes.simulation import simulate
from nassearch.setting import INT8
from nassearch.training.evaluation import Accuracy, measure_accuracy


def export_precisions(export: ExportConfig, num_blocks: int) -> tuple[str, ...]:
    """The precision of each block of an export: its policy's, or int8 where it has none."""
    said = export.architecture.get("precisions")
    if isinstance(said, Sequence) and not isinstance(said, str):
        return tuple(map(str, said))
    return (INT8,) * num_blocks


class QuantizedTraining:
    """A network that is trained as the graph of a policy computes.

    `simulated` is what is trained; `write_back` then gives `network` its weights. That is changed
    from the start: its norms are folded, as in the graph. Ranges are those of normalised `images`.
    """

    def __init__(self, network: Subnet, precisions: Sequence[str], images: Tensor) -> None:
        self.network = network
        self.precisions = tuple(precisions)
        self._norms = fold_norms(network)
        graph = to_onnx(_merged(network, self._norms), network.input_shape, batch=None)
        self._place = tempfile.TemporaryDirectory(prefix="nassearch-ranges-")
        self._ranges = Path(self._place.name) / "measured.json"
        int8 = quantize_blocks(graph, self.precisions, images.numpy(), ranges=self._ranges)
        self.simulated = simulate(int8, weights=graph)
        self._layers = node_modules(graph)
        for name, weight in self.simulated.named_weights().items():
            weight.value.requires_grad_(self._tensor(name) is not None)

    @torch.no_grad()
    def write_back(self) -> None:
        """Give the plain network the weights that were trained."""
        for name, weight in self.simulated.named_weights().items():
            target = self._tensor(name)
            if target is not None:
                target.copy_(weight.value)

    def ranges(self) -> Path:
        """The file of the ranges it was trained under, as the plain network's; it is kept as long
        as this is.
        """
        path = Path(self._place.name) / "trained.json"
        if not self._ranges.exists():  # nothing is in int8
            return self._ranges
        graph = to_onnx(self.network, self.network.input_shape, batch=None)
        ranges_for(graph, self._ranges, path)
        return path

    def accuracy(self, data: Data) -> Accuracy:
        """That of the plain network's graph by its policy, on validation images."""
        return simulated_accuracy(self.network, self.precisions, data, ranges=self.ranges())

    def _tensor(self, name: str) -> Tensor | None:
        """Where in the plain network a tensor of the graph lies; None for what is no tensor of it.

        The graph's tensors are called as the network's, but for matrices that it holds transposed
        and for what it has computed of others, which is left as it is.
        """
        path, _, leaf = name.rpartition(".")
        if leaf == "bias" and path in self._norms:
            return self.network.get_parameter(f"{self._norms[path]}.bias")
        known = dict(self.network.named_parameters())
        if name in known:
            return known[name]
        layer = self._layers.get(name)
        if layer is not None and isinstance(self.network.get_submodule(layer), nn.Linear):
            return known[f"{layer}.weight"].t()
        return None


def simulated_accuracy(
    network: Subnet, precisions: Sequence[str], data: Data, *, ranges: Path | None = None
) -> Accuracy:
    """The accuracy on validation images of the graph that an export of `network` would hold."""
    simulated = simulated_network(network, precisions, data, ranges=ranges)
    pixels = network.input_shape[1]
    return measure_accuracy(simulated, data.val, data, split="val", resolution=pixels)


def _merged(network: Subnet, norms: dict[str, str]) -> Subnet:
    """A copy in which a folded norm is the bias of its convolution, so that both keep their names
    in a graph.
    """
    merged = copy.deepcopy(network).eval()
    for name, norm_name in norms.items():
        layer, norm = merged.get_submodule(name), merged.get_submodule(norm_name)
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        layer.bias = nn.Parameter(norm.bias.detach().clone())
        place, _, leaf = norm_name.rpartition(".")
        setattr(merged.get_submodule(place), leaf, nn.Identity())
    return merged
