"""Reads an ONNX graph, in float or quantized, as steps in PyTorch (`simulation` runs them).

Between a QuantizeLinear and its DequantizeLinear a tensor is known by its *whole* numbers, integer
minus zero point, and by the *real* ones, these times the scale. Convolutions and matrix products of
whole numbers are summed as such and brought to the output's scale with one product, as ONNX
Runtime's integer kernels do it (MlasRequantizeOutput in onnxruntime/core/mlas/lib/qgemm.cpp): what
float32 rounds differently there is soon different everywhere.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from nassearch.errors import ExportError
from nassearch.runtimes.graph_operators import OPERATORS, Operator, Values, attributes
from nassearch.runtimes.simulated_weight import LEVELS, Grid, Weight, along, straight_through

PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})
WHOLE, SCALE = "#whole", "#scale"
"""Added to the name of a tensor: its whole numbers, and what one of them stands for."""
_QUANTIZED = "_quantized"
"""What the quantizer adds to the name of a tensor whose integers it stores."""
_LAYERS = {"Conv", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Step:
    """One operator: what computes it, what it reads and writes, and what nobody reads after it."""

    run: Operator
    attributes: Mapping[str, Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    done: tuple[str, ...] = ()


class _Whole(torch.autograd.Function):
    """Rounded half to even and clamped; the identity's gradient, zero where it is clamped."""

    @staticmethod
    def forward(ctx: Any, steps: Tensor, least: int, most: int) -> Tensor:
        whole = steps.round()
        clamped = whole.clamp(least, most)
        ctx.save_for_backward(clamped == whole)
        return clamped

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (is_inside,) = ctx.saved_tensors
        return gradients[0] * is_inside, None, None


@dataclass(frozen=True)
class _Rounding:
    """A QuantizeLinear with the DequantizeLinears that undo it: scale, ends, and what reads it."""

    scale: float
    zero_point: int
    levels: tuple[int, int]
    real: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()

    @property
    def writes(self) -> tuple[str, ...]:
        return (*self.real, *(name + WHOLE for name in self.whole))

    def outputs(self, steps: Tensor) -> tuple[Tensor, ...]:
        """What it writes, of a fresh tensor in steps of the scale."""
        least, most = (level - self.zero_point for level in self.levels)
        if steps.requires_grad:
            whole: Tensor = _Whole.apply(steps, least, most)
        else:
            whole = steps.round_().clamp_(least, most)
        return self.of_whole(whole)

    def of_whole(self, whole: Tensor) -> tuple[Tensor, ...]:
        """What it writes, of whole numbers."""
        real = (whole * self.scale,) * len(self.real) if self.real else ()
        return (*real, *(whole for _ in self.whole))

    def run(self, values: Values, _: Mapping[str, Any]) -> tuple[Tensor, ...]:
        return self.outputs(_only(values) / self.scale)


@dataclass
class GraphParts:
    """A network as it is put together from a graph."""

    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    """By the tensor that they give."""


def read_graph(graph: onnx.GraphProto, weights: Mapping[str, npt.NDArray[Any]]) -> GraphParts:
    """The steps of a graph, in order, with its constants and its weights.

    `weights` are float tensors by their names, which take the place of what the graph's integers
    stand for. Raises ExportError where an operator is not simulated.
    """
    return _Reader(graph, weights).read()


class _Reader:
    def __init__(self, graph: onnx.GraphProto, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        self._graph = graph
        self._tensors = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self._given = weights
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._parts = GraphParts()
        self._roundings: dict[str, tuple[float, int]] = {}  # of what is dequantized
        self._fused: dict[str, onnx.NodeProto] = {}  # what is computed where it is rounded

    def read(self) -> GraphParts:
        parts = self._parts
        for name, tensor in self._tensors.items():
            readers = self._readers[name]
            if tensor.dtype == np.float32 and tensor.ndim and not _is_fixed(name, readers):
                self._add_weight(name, name, tensor, None)
            else:
                parts.constants[name] = torch.from_numpy(np.array(tensor))
        for node in self._graph.node:
            if node.op_type == "QuantizeLinear":
                self._add_quantize(node)
            elif node.op_type == "DequantizeLinear":
                self._add_dequantize(node)
            else:
                self._add(node)
        return self._finished()

    def _finished(self) -> GraphParts:
        """Without what nobody reads, real or whole."""
        parts = self._parts
        read = {name for step in parts.steps for name in step.reads}
        outputs = {value.name for value in self._graph.output}
        constants = {name: value for name, value in parts.constants.items() if name in read}
        steps = [self._only_read(step, read | outputs) for step in parts.steps]
        return GraphParts(_with_last_uses(steps, keep=outputs), constants, parts.weights)

    def _only_read(self, step: Step, read: Collection[str]) -> Step:
        rounding = step.attributes.get("rounding")
        if rounding is None:
            return step
        kept = replace(
            rounding,
            real=tuple(name for name in rounding.real if name in read),
            whole=tuple(name for name in rounding.whole if name + WHOLE in read),
        )
        given = {**step.attributes, "rounding": kept}
        return replace(step, attributes=given, writes=kept.writes)

    def _add(self, node: onnx.NodeProto) -> None:
        run = OPERATORS.get(node.op_type)
        if run is None:
            raise ExportError(
                f"holds the operator {node.op_type} ({node.name}), which is not simulated",
                where="graph",
                fix="write the op with others, or give it one in runtimes/graph_operators.py",
            )
        given, parts = attributes(node), self._parts
        if all(name in parts.constants for name in node.input if name):
            found = run([parts.constants.get(name) for name in node.input], given)
            outputs = (found,) if isinstance(found, Tensor) else found
            parts.constants.update(zip(node.output, outputs, strict=True))
        elif self._is_rounded_alone(node) and (
            self._is_integer_layer(node) or self._is_integer_sum(node)
        ):
            self._fused[node.output[0]] = node
        else:
            parts.steps.append(Step(run, given, tuple(node.input), tuple(node.output)))

    def _add_weight(
        self, name: str, output: str, tensor: npt.NDArray[Any], grid: Grid | None
    ) -> None:
        float_name = name.removesuffix(_QUANTIZED)
        value = torch.from_numpy(np.array(self._given.get(float_name, tensor)))
        self._parts.weights[output] = Weight(float_name, value, tensor.shape, grid)

    # -- roundings ---------------------------------------------------------------------------------

    def _add_quantize(self, node: onnx.NodeProto) -> None:
        """A rounding to integers; where they are read by their own inverses alone, with these."""
        inverses, source = self._readers[node.output[0]], node.input[0]
        scale, zero_point = self._scale(node)
        levels = LEVELS[str(self._tensors[node.input[2]].dtype)]
        if not _are_inverses(inverses, node):
            run = _integers(scale, zero_point, levels)
            self._parts.steps.append(Step(run, {}, (source,), (node.output[0],)))
            return
        names = tuple(reader.output[0] for reader in inverses)
        self._roundings.update(dict.fromkeys(names, (scale, zero_point)))
        rounding = _Rounding(scale, zero_point, levels, names, names)
        if source in self._parts.constants:
            real, *_ = rounding.outputs(self._parts.constants[source] / scale)
            self._parts.constants.update(dict.fromkeys(names, real))
            return
        fused = self._fused.get(source)
        if fused is None:
            step = Step(_run_rounding, {"rounding": rounding}, (source,), rounding.writes)
        elif fused.op_type == "Add":
            step = self._sum_step(fused, rounding)
        else:
            step = self._layer_step(fused, rounding)
        self._parts.steps.append(step)

    def _add_dequantize(self, node: onnx.NodeProto) -> None:
        source, parts = node.input[0], self._parts
        if source in self._tensors:
            self._add_stored(node)
        elif node.output[0] not in self._roundings:
            scale, zero_point = self._scale(node)
            name = node.output[0]
            self._roundings[name] = (scale, zero_point)
            rounding = _Rounding(scale, zero_point, (0, 0), (name,), (name,))
            given = {"rounding": rounding}
            parts.steps.append(Step(_run_inverse, given, (source,), rounding.writes))

    def _add_stored(self, node: onnx.NodeProto) -> None:
        """Integers of the file: a weight, a bias of 32 bits, or one number."""
        stored, scale = self._tensors[node.input[0]], self._tensors[node.input[1]]
        zero_point = self._tensors[node.input[2]] if len(node.input) > 2 else np.zeros_like(stored)
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        if scale.size == 1:  # however it is written
            scale, zero_point = scale.reshape(()), zero_point.reshape(-1)[:1].reshape(())
        factor = along(torch.from_numpy(np.array(scale)), axis, stored.ndim).numpy()
        origin = along(torch.from_numpy(np.array(zero_point)), axis, stored.ndim).numpy()
        value = (stored.astype(np.float64) - origin).astype(np.float32) * factor
        if stored.ndim == 0:
            self._parts.constants[node.output[0]] = torch.from_numpy(np.array(value))
            self._roundings[node.output[0]] = (float(scale), int(zero_point))
            return
        grid = None
        if str(stored.dtype) in LEVELS:
            grid = Grid(
                torch.from_numpy(np.array(scale)),
                torch.from_numpy(np.array(zero_point)),
                kind=str(stored.dtype),
                axis=axis,
            )
        self._add_weight(node.input[0], node.output[0], value, grid)

    def _scale(self, node: onnx.NodeProto) -> tuple[float, int]:
        """Scale and zero point of an activation."""
        return float(self._tensors[node.input[1]].item()), int(self._tensors[node.input[2]].item())

    # -- what is computed between integers ---------------------------------------------------------

    def _is_rounded_alone(self, node: onnx.NodeProto) -> bool:
        """Whether what a node gives is read by one rounding and nothing else."""
        readers = self._readers[node.output[0]]
        return (
            len(readers) == 1
            and readers[0].op_type == "QuantizeLinear"
            and _are_inverses(self._readers[readers[0].output[0]], readers[0])
        )

    def _is_integer_layer(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _LAYERS or node.input[0] not in self._roundings:
            return False
        weight = self._parts.weights.get(node.input[1])
        if weight is None or weight.grid is None or bool(weight.grid.zero_point.any()):
            return False
        biases = [self._parts.weights.get(name) for name in list(node.input)[2:]]
        given = attributes(node)
        return (
            all(bias is not None and bias.grid is None for bias in biases)
            and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0
        )

    def _layer_step(self, node: onnx.NodeProto, rounding: _Rounding) -> Step:
        images, weight, *bias = node.input
        given = {
            **attributes(node),
            "rounding": rounding,
            "layer": OPERATORS[node.op_type],
            "scale": self._roundings[images][0],
            "axis": 1 if node.op_type == "Conv" else -1,
        }
        reads = (images + WHOLE, weight + WHOLE, weight + SCALE, *bias)
        return Step(_run_layer, given, reads, rounding.writes)

    def _is_integer_sum(self, node: onnx.NodeProto) -> bool:
        """Whether a node adds one number to a tensor, both of integers."""
        single = [name for name in node.input if name in self._parts.constants]
        return (
            node.op_type == "Add"
            and all(name in self._roundings for name in node.input)
            and len(single) == 1
            and self._parts.constants[single[0]].numel() == 1
        )

    def _sum_step(self, node: onnx.NodeProto, rounding: _Rounding) -> Step:
        """A sum as between the integers that its terms are.

        Half of the values of 1 + erf(x), which GELU takes, lie halfway between two integers: there
        the rounding of floats would decide. Terms and order are those of MlasQLinearAdd
        (onnxruntime/core/mlas/lib/qladd.cpp), in float32.
        """
        number, source = node.input
        if source in self._parts.constants:
            number, source = source, number
        own, own_zero = self._roundings[source]
        step, step_zero = self._roundings[number]
        added = round(float(self._parts.constants[number]) / step) + step_zero
        out = np.float32(rounding.scale)
        ratio, number_ratio = np.float32(own) / out, np.float32(step) / out
        fixed = np.float32(rounding.zero_point) - (
            ratio * np.float32(own_zero) + number_ratio * np.float32(step_zero)
        )
        fixed += number_ratio * np.float32(added)
        given = {
            "rounding": rounding,
            "zero_point": own_zero,
            "ratio": float(ratio),
            "fixed": float(fixed),
        }
        return Step(_run_sum, given, (source + WHOLE,), rounding.writes)


def _are_inverses(readers: Collection[onnx.NodeProto], node: onnx.NodeProto) -> bool:
    return all(
        reader.op_type == "DequantizeLinear" and reader.input[1:] == node.input[1:]
        for reader in readers
    )


def _is_fixed(name: str, readers: Collection[onnx.NodeProto]) -> bool:
    """Whether a float tensor is no weight: a scale, or a statistic of a norm."""
    return any(
        node.op_type in PAIRS
        or (node.op_type == "BatchNormalization" and name in list(node.input)[3:])
        for node in readers
    )


def _with_last_uses(steps: list[Step], *, keep: Collection[str]) -> list[Step]:
    """The steps, each with the values that no later one reads."""
    written = {name for step in steps for name in step.writes}
    last = {
        name: number
        for number, step in enumerate(steps)
        for name in (*step.writes, *step.reads)
        if name in written and name not in keep
    }
    done: list[list[str]] = [[] for _ in steps]
    for name, number in last.items():
        done[number].append(name)
    return [replace(step, done=tuple(names)) for step, names in zip(steps, done, strict=True)]


# -- running ---------------------------------------------------------------------------------------


def _only(values: Values) -> Tensor:
    (value,) = values
    assert value is not None
    return value


def _run_rounding(values: Values, given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    rounding: _Rounding = given["rounding"]
    return rounding.run(values, given)


def _run_layer(values: Values, given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """A convolution or product of whole numbers, brought to the steps of its output."""
    images, weight, scale, *biases = values
    assert images is not None and weight is not None and scale is not None
    unit = given["scale"] * scale
    bias = [straight_through(bias / unit) for bias in biases if bias is not None]
    out = given["layer"]((images, weight, *bias), given)
    rounding: _Rounding = given["rounding"]
    factor = along(unit / rounding.scale, given["axis"] % out.dim(), out.dim())
    return rounding.outputs(out * factor)


def _run_sum(values: Values, given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    rounding: _Rounding = given["rounding"]
    whole, offset = _only(values), given["fixed"] - rounding.zero_point
    real = whole * given["ratio"] + (offset + given["zero_point"] * given["ratio"])
    integers = whole.detach().double() + given["zero_point"]
    exact = (integers * given["ratio"] + given["fixed"]).float().round() - rounding.zero_point
    return rounding.outputs(real + (exact - real).detach())


def _integers(scale: float, zero_point: int, levels: tuple[int, int]) -> Operator:
    """The integers themselves, as floats."""
    return lambda values, _: torch.clamp(
        straight_through(_only(values) / scale) + zero_point, *levels
    )


def _run_inverse(values: Values, given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """What integers stand for."""
    rounding: _Rounding = given["rounding"]
    return rounding.of_whole(_only(values) - rounding.zero_point)
