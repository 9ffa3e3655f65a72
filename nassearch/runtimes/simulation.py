"""An exported ONNX graph in PyTorch, its quantization simulated.

Scales, zero points, folding and rounding are those of the graph, because it is the graph that is
run: a quantized tensor is rounded (half to even) and clamped to the integers it has in the file and
goes on as the number that they stand for. Rounding has the gradient of the identity, none where a
value is clamped (straight-through: Bengio, Leonard and Courville, 2013; the whole of simulated
quantization: Jacob et al., CVPR 2018, section 3). So one module serves the accuracy of a candidate,
the ranges of activations and quantization-aware training.
"""

from collections.abc import Callable

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from nassearch.runtimes.graph_operators import OPERATORS
from nassearch.runtimes.simulated_graph import PAIRS, SCALE, WHOLE, read_graph
from nassearch.runtimes.simulated_weight import Weight

Watch = Callable[[str, Tensor], None]
"""Told the name and the value of each tensor of a graph."""


def simulate(model: bytes, *, weights: bytes | None = None) -> "SimulatedNetwork":
    """The network of an ONNX graph, in float or with quantize-dequantize pairs.

    Args:
        model: The graph. Where its batch is fixed it runs that many images at once; leave the batch
            open where speed counts.
        weights: The float graph that `model` was made of. The weights are then those, to be
            trained; without it they are what the integers of `model` stand for.

    Returns:
        A module in evaluation mode. In training mode the scales of the weights follow them.

    Raises:
        ExportError: The graph holds an operator that is not simulated.
    """
    return SimulatedNetwork(onnx.load_from_string(model), weights).eval()


def unsimulated(model: bytes) -> list[str]:
    """The operators of a graph that `simulate` lacks, sorted."""
    nodes = onnx.load_from_string(model).graph.node
    return sorted({node.op_type for node in nodes} - OPERATORS.keys() - PAIRS)


class SimulatedNetwork(nn.Module):
    """A graph as a module: images (n, c, h, w) to logits (n, classes), see `simulate`."""

    def __init__(self, model: onnx.ModelProto, weights: bytes | None = None) -> None:
        super().__init__()
        graph = model.graph
        given = [] if weights is None else onnx.load_from_string(weights).graph.initializer
        parts = read_graph(graph, {item.name: numpy_helper.to_array(item) for item in given})
        shape = [item.dim_value for item in graph.input[0].type.tensor_type.shape.dim]
        self.batch_size = shape[0] or None
        """Images that the graph takes at once; None for any number."""
        self.input_shape = (shape[1], shape[2], shape[3])
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._steps = parts.steps
        self._read = frozenset(name for step in parts.steps for name in step.reads)
        self._weights = nn.ModuleList(parts.weights.values())
        self._weight_outputs = tuple(parts.weights)
        self._numbers = {
            name: value
            for name, value in parts.constants.items()
            if not value.is_floating_point()  # shapes, which stay on the CPU
        }
        self._floats = tuple(name for name in parts.constants if name not in self._numbers)
        for number, name in enumerate(self._floats):
            self.register_buffer(f"constant_{number}", parts.constants[name], persistent=False)

    def named_weights(self) -> dict[str, Weight]:
        """What can be trained, by its name in the float graph."""
        return {weight.name: weight for weight in self._weights if isinstance(weight, Weight)}

    def refresh_scales(self) -> None:
        """Give every weight the scale that an export would give it now."""
        for weight in self.named_weights().values():
            weight.refresh_scale()

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.refresh_scales()
        return self.observe(images, None)

    def observe(self, images: Tensor, watch: Watch | None) -> Tensor:
        """The logits; `watch` is told every tensor on the way to them, and constants.

        Of a graph in int8 it is told tensors that only integer layers read by their whole numbers.
        """
        if self.batch_size is None or len(images) == self.batch_size:
            return self._run(images, watch)
        missing = -len(images) % self.batch_size
        padded = torch.cat([images, images[:1].expand(missing, -1, -1, -1)])
        parts = [self._run(part, watch) for part in padded.split(self.batch_size)]
        return torch.cat(parts)[: len(images)]

    def _run(self, images: Tensor, watch: Watch | None) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)  # faster on CPUs
        values: dict[str, Tensor] = {**self._numbers, self._input: images}
        for number, name in enumerate(self._floats):
            values[name] = getattr(self, f"constant_{number}")
        for name, weight in zip(self._weight_outputs, self._weights, strict=True):
            assert isinstance(weight, Weight)
            if name in self._read:
                values[name] = weight.real()
            if name + WHOLE in self._read and weight.grid is not None:
                values[name + WHOLE], values[name + SCALE] = weight.whole(), weight.grid.scale
        if watch is not None:
            for name in (self._input, *self._floats):
                watch(name, values[name])
        for step in self._steps:
            found = step.run([values.get(name) for name in step.reads], step.attributes)
            outputs = (found,) if isinstance(found, Tensor) else found
            for name, value in zip(step.writes, outputs, strict=True):
                values[name] = value
                if watch is not None:
                    watch(name, value)
            for name in step.done:
                del values[name]
        return values[self._output]
