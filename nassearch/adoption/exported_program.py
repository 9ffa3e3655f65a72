"""The operators of a program that torch.export made; what is on no list is refused."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from nassearch.errors import AdoptionError
from nassearch.space.graph_config import INPUT

BATCH = 2  # one image would let a module mistake the batch for an axis of size 1


@dataclass
class Operator:
    """One operator of a trace; `attributes` are those of a `NodeConfig`, sizes as they were seen.

    `sizes` is the shape of its output without the batch, `tensors` the module's tensors behind its
    own (`weight` -> `layer1.0.conv1.weight`), `path` the module in which it was called.
    """

    id: str
    op: str
    of: list[str]
    sizes: tuple[int, ...]
    path: str
    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    batched: bool = True
    wants: Any = None
    """What a reshape or a slice is to give, in numbers, until symbols say it."""


class ProgramReader:
    """Reads an exported program into operators."""

    def __init__(self, program: Any, name: str) -> None:
        self._program = program
        self._name = name
        signature = program.graph_signature
        self._tensors: dict[str, str] = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
        }
        constants: dict[str, str] = signature.inputs_to_lifted_tensor_constants
        self._constants = {**constants}
        self._values: dict[str, Any] = {}
        self._operators: list[Operator] = []
        self._used: dict[str, str] = {}
        self._ids: set[str] = {INPUT}
        self._viewed: dict[str, str] = {}
        self.outputs: tuple[str, ...] = ()
        """The operators that give what the program gives, once it was read."""

    def read(self) -> list[Operator]:
        images: list[str] = []
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                if node.name not in self._tensors and node.name not in self._constants:
                    images.append(node.name)
                    self._values[node.name] = INPUT
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                count = len(self._program.graph_signature.user_outputs)
                self.outputs = tuple(map(self._output, node.args[0][-count:]))
        assert len(images) == 1
        return _alive(self._operators, self.outputs)

    def _output(self, node: fx.Node) -> str:
        value = self._values.get(node.name, INPUT)
        if value == INPUT or not isinstance(value, str):
            raise AdoptionError(
                "gives what no operator computed of the images",
                where=self._name,
                fix="return what its layers make of the images alone",
            )
        return value

    # -- one operator ------------------------------------------------------------------------------

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node)
            self._values[node.name] = self._values[source.name][index]
            return
        schema = node.target._schema  # type: ignore[union-attr]
        name = schema.name.partition("::")[2]
        arguments = {
            argument.name: node.kwargs.get(argument.name, argument.default_value)
            for argument in schema.arguments
        }
        arguments.update(zip(arguments, node.args, strict=False))
        in_place = name.endswith("_") and not name.endswith("__")
        name = name.removesuffix("_") if in_place else name
        if in_place:
            self._refuse_view(node)
        if name in _NOTHING:
            read = arguments.get(_NOTHING[name], arguments.get("self"))
            self._values[node.name] = self._value(read, node)
        else:
            translate = getattr(self, f"_{_CALLED.get(name, name)}", None)
            if name in _UNARY:
                self._emit(node, _UNARY[name], [arguments["self"]])
            elif translate is None or name.startswith("_"):
                raise self._unknown(node, name)
            else:
                translate(node, arguments)
        if in_place:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self._values[source.name] = self._values[node.name]

    def _refuse_view(self, node: fx.Node) -> None:
        """An operator that writes into a view changes a tensor that others read."""
        source = node.args[0]
        assert isinstance(source, fx.Node)
        target = getattr(source.target, "_schema", None)
        if target is None and source.target is not operator.getitem:
            return
        is_view = target is None or target.name.partition("::")[2] in _VIEWS
        base = source.args[0]
        if is_view and isinstance(base, fx.Node):
            order = list(self._program.graph.nodes)
            if any(order.index(user) > order.index(node) for user in base.users):
                raise AdoptionError(
                    "changes a view in place while others read what it is a view of",
                    where=self._where(node),
                    fix="write it without the trailing underscore (x = x + y), or .clone() first",
                )

    def _emit(
        self,
        node: fx.Node,
        op: str,
        reads: Sequence[Any],
        *,
        tensors: dict[str, Any] | None = None,
        wants: Any = None,
        sizes: Sequence[int] | None = None,
        **attributes: Any,
    ) -> str:
        value = node.meta["val"]
        shape = tuple(int(size) for size in value.shape) if sizes is None else (BATCH, *sizes)
        of = [self._value(read, node) for read in reads]
        if of and not self._is_batched(of):
            raise AdoptionError(
                "computes something of its weights alone",
                where=self._where(node),
                fix="keep the result as a parameter: fuse it, or remove the parametrization",
            )
        if not shape or shape[0] != BATCH:
            raise AdoptionError(
                f"gives {shape}, whose first axis is not the batch",
                where=self._where(node),
                fix="keep the batch as the first axis of every tensor",
            )
        if isinstance(value, Tensor) and value.dtype not in (torch.float32, torch.bool):
            raise AdoptionError(
                f"computes in {str(value.dtype).removeprefix('torch.')}",
                where=self._where(node),
                fix="keep every tensor in single precision",
            )
        path, kind = self._module(node)
        made = Operator(
            self._unique(path, op, owns=bool(tensors)), op, of, shape[1:], path, kind, attributes
        )
        made.wants = wants
        for leaf, tensor in (tensors or {}).items():
            if tensor is not None:
                made.tensors[leaf] = self._own(tensor, node)
        self._operators.append(made)
        self._values[node.name] = made.id
        return made.id

    def _is_batched(self, names: Sequence[str]) -> bool:
        """Whether any of these values comes from the images."""
        alone = {made.id for made in self._operators if not made.batched}
        return not alone.issuperset(names)

    def _own(self, tensor: Any, node: fx.Node) -> str:
        """The name of a tensor of the module that this operator alone reads."""
        if not isinstance(tensor, fx.Node) or tensor.name not in self._tensors:
            raise AdoptionError(
                "uses a weight that is computed",
                where=self._where(node),
                fix="keep it as a parameter: fuse it, or remove the parametrization",
            )
        name = self._tensors[tensor.name]
        if name in self._used:
            raise AdoptionError(
                f"uses {name} a second time, after {self._used[name]}",
                where=self._where(node),
                fix="give each call a layer of its own, copy.deepcopy(layer)",
            )
        self._used[name] = self._where(node)
        return name

    def _value(self, read: Any, node: fx.Node) -> str:
        """The id of a value that is read; a parameter becomes an operator that gives it."""
        if isinstance(read, fx.Node) and read.name in self._values:
            value = self._values[read.name]
            if isinstance(value, str):
                return value
        if isinstance(read, fx.Node) and read.name in self._tensors:
            tensor = read.meta["val"]
            return self._parameter(read, tuple(tensor.shape), node)
        raise AdoptionError(
            "reads a constant tensor that is no parameter",
            where=self._where(node),
            fix="keep it as an nn.Parameter of the module, or write it as a number",
        )

    def _parameter(self, read: fx.Node, shape: tuple[int, ...], node: fx.Node) -> str:
        name = self._tensors[read.name]
        if name in self._program.graph_signature.buffers:
            raise AdoptionError(
                f"reads the buffer {name}",
                where=self._where(node),
                fix="keep it as an nn.Parameter of the module, or write it as a number",
            )
        self._own(read, node)
        while shape and shape[0] == 1:
            shape = shape[1:]
        path = name.rpartition(".")[0]
        made = Operator(
            self._unique(name, "parameter", owns=True),
            "parameter",
            [],
            shape,
            path,
            self._module(node)[1],
            {},
            {"value": name},
            batched=False,
        )
        self._operators.append(made)
        self._values[read.name] = made.id
        return made.id

    # -- translations ------------------------------------------------------------------------------

    def _conv2d(self, node: fx.Node, given: dict[str, Any]) -> None:
        weight = given["weight"].meta["val"].shape
        grouped = {"group_in": int(weight[1]), "group_out": int(weight[0]) // given["groups"]}
        padding = given["padding"]
        dilation, kernel = _pair(given["dilation"]), (int(weight[2]), int(weight[3]))
        if isinstance(padding, str):
            reach = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
            if padding == "same" and any(size % 2 for size in reach):
                raise self._unknown(node, "conv2d with padding 'same' of an even kernel")
            padding = [size // 2 for size in reach] if padding == "same" else 0
        self._emit(
            node,
            "conv",
            [given["input"]],
            tensors={"weight": given["weight"], "bias": given["bias"]},
            wants=int(weight[0]),
            kernel=kernel,
            stride=_pair(given["stride"]),
            padding=_pair(padding),
            dilation=dilation,
            bias=given["bias"] is not None,
            **(grouped if given["groups"] > 1 else {}),
        )

    def _conv_transpose2d(self, node: fx.Node, given: dict[str, Any]) -> None:
        weight = given["weight"].meta["val"].shape
        if given["groups"] != 1:
            raise self._unknown(node, "a transposed convolution in groups")
        extra = _pair(given["output_padding"])
        self._emit(
            node,
            "conv_transpose",
            [given["input"]],
            tensors={"weight": given["weight"], "bias": given["bias"]},
            wants=int(weight[1]),
            kernel=(int(weight[2]), int(weight[3])),
            stride=_pair(given["stride"]),
            padding=_pair(given["padding"]),
            dilation=_pair(given["dilation"]),
            bias=given["bias"] is not None,
            **_given(output_padding=extra if any(extra) else None),
        )

    def _linear(self, node: fx.Node, given: dict[str, Any]) -> None:
        self._emit(
            node,
            "linear",
            [given["input"]],
            tensors={"weight": given["weight"], "bias": given["bias"]},
            wants=int(given["weight"].meta["val"].shape[0]),
            bias=given["bias"] is not None,
        )

    def _batch_norm(self, node: fx.Node, given: dict[str, Any]) -> None:
        if given["running_mean"] is None:
            raise self._unknown(node, "batch norm without running statistics")
        if len(node.meta["val"].shape) not in (2, 4):
            raise self._unknown(node, "batch norm of what is no image")
        names = ("weight", "bias", "running_mean", "running_var")
        self._emit(
            node,
            "batch_norm",
            [given["input"]],
            tensors={name: given[name] for name in names},
            eps=given["eps"],
            momentum=given["momentum"],
            affine=given["weight"] is not None,
        )

    def _layer_norm(self, node: fx.Node, given: dict[str, Any]) -> None:
        if len(given["normalized_shape"]) != 1:
            raise self._unknown(node, "layer norm over several axes")
        self._emit(
            node,
            "layer_norm",
            [given["input"]],
            tensors={"weight": given["weight"], "bias": given["bias"]},
            eps=given["eps"],
            affine=given["weight"] is not None,
        )

    def _group_norm(self, node: fx.Node, given: dict[str, Any]) -> None:
        self._emit(
            node,
            "group_norm",
            [given["input"]],
            tensors={"weight": given["weight"], "bias": given["bias"]},
            groups=given["num_groups"],
            eps=given["eps"],
            affine=given["weight"] is not None,
        )

    def _arithmetic(self, node: fx.Node, given: dict[str, Any]) -> None:
        op = node.target._schema.name.partition("::")[2].removesuffix("_")  # type: ignore[union-attr]
        if given.get("alpha", 1) != 1 or given.get("rounding_mode") is not None:
            raise self._unknown(node, f"{op} with a factor")
        first, second = given["self"], given["other"]
        if isinstance(second, int | float):
            self._emit(node, op, [first], value=second)
        else:
            self._emit(node, op, [first, second])

    def _max_pool2d(self, node: fx.Node, given: dict[str, Any]) -> None:
        self._emit(
            node,
            "max_pool",
            [given["self"]],
            kernel=_pair(given["kernel_size"]),
            stride=_pair(given["stride"] or given["kernel_size"]),
            padding=_pair(given["padding"]),
            dilation=_pair(given["dilation"]),
            **_given(ceil=given["ceil_mode"] or None),
        )

    def _avg_pool2d(self, node: fx.Node, given: dict[str, Any]) -> None:
        if given["divisor_override"] is not None:
            raise self._unknown(node, "avg_pool2d with a divisor")
        self._emit(
            node,
            "avg_pool",
            [given["self"]],
            kernel=_pair(given["kernel_size"]),
            stride=_pair(given["stride"] or given["kernel_size"]),
            padding=_pair(given["padding"]),
            **_given(ceil=given["ceil_mode"] or None),
            **_given(count_padding=None if given["count_include_pad"] else False),
        )

    def _upsample(self, node: fx.Node, given: dict[str, Any]) -> None:
        name = node.target._schema.name  # type: ignore[union-attr]
        before, after = (one.meta["val"].shape[2:] for one in (given["input"], node))
        whole = all(int(new) % int(old) == 0 for old, new in zip(before, after, strict=True))
        scale = tuple(int(new) // int(old) for old, new in zip(before, after, strict=True))
        align = _given(align=given.get("align_corners") or None)
        kept: dict[str, Any] = {"scale": scale}
        if align or not whole:
            kept = {"size": tuple(map(int, after))}
        mode = "bilinear" if "bilinear" in name else "nearest"
        self._emit(node, "upsample", [given["input"]], mode=mode, **kept, **align)

    def _adaptive_pool(self, node: fx.Node, given: dict[str, Any]) -> None:
        average = "avg" in node.target._schema.name  # type: ignore[union-attr]
        size = _pair(given["output_size"])
        if None in size:
            raise self._unknown(node, "adaptive pooling that keeps an axis")
        op = "adaptive_avg_pool" if average else "adaptive_max_pool"
        self._emit(node, op, [given["self"]], size=size)

    def _mean(self, node: fx.Node, given: dict[str, Any]) -> None:
        if given.get("dim") is None or given.get("dtype") is not None:
            raise self._unknown(node, "mean over the batch")
        dims = self._dims(given["self"], given["dim"], node)
        keep = _given(keep=given["keepdim"] or None)
        self._emit(node, "mean", [given["self"]], dims=dims, **keep)

    def _sum(self, node: fx.Node, given: dict[str, Any]) -> None:
        if given.get("dim") is None or given.get("dtype") is not None:
            raise self._unknown(node, "a sum over the batch")
        dims = self._dims(given["self"], given["dim"], node)
        keep = _given(keep=given["keepdim"] or None)
        self._emit(node, "sum", [given["self"]], dims=dims, **keep)

    def _cat(self, node: fx.Node, given: dict[str, Any]) -> None:
        dims = self._dims(given["tensors"][0], [given["dim"]], node)
        self._emit(node, "concat", given["tensors"], dims=dims)

    def _chunk(self, node: fx.Node, given: dict[str, Any]) -> None:
        (dim,) = self._dims(given["self"], [given["dim"]], node)
        start, pieces = 0, []
        for piece in node.meta["val"]:
            length = int(piece.shape[dim])
            sizes = tuple(int(size) for size in piece.shape[1:])
            made = self._emit_take(node, given["self"], dim, start, length, sizes)
            pieces.append(made)
            start += length
        self._values[node.name] = pieces

    def _emit_take(
        self, node: fx.Node, read: Any, dim: int, start: int, length: int, sizes: tuple[int, ...]
    ) -> str:
        of = self._value(read, node)
        path, kind = self._module(node)
        made = Operator(
            self._unique(path, "take", owns=False),
            "take",
            [of],
            sizes,
            path,
            kind,
            {"dims": (dim,)},
        )
        made.wants = (start, length)
        self._operators.append(made)
        return made.id

    def _slice(self, node: fx.Node, given: dict[str, Any]) -> None:
        read = given["self"]
        dim = given["dim"] % len(read.meta["val"].shape)
        size = int(read.meta["val"].shape[dim])
        start, end = given["start"] or 0, given["end"]
        start = start + size if start < 0 else start
        end = size if end is None or end > size else end + size if end < 0 else end
        if given["step"] != 1:
            raise self._unknown(node, "a slice with a step")
        if (start, end) == (0, size):
            self._values[node.name] = self._value(read, node)
            return
        if dim == 0:
            raise self._unknown(node, "a slice of the batch")
        sizes = tuple(int(number) for number in node.meta["val"].shape[1:])
        self._values[node.name] = self._emit_take(node, read, dim, start, end - start, sizes)

    def _select(self, node: fx.Node, given: dict[str, Any]) -> None:
        read = given["self"]
        dim = given["dim"] % len(read.meta["val"].shape)
        if dim == 0:
            raise self._unknown(node, "a choice among the batch")
        shape = [int(size) for size in read.meta["val"].shape[1:]]
        index = given["index"] % shape[dim - 1]
        shape[dim - 1] = 1
        taken = self._emit_take(node, read, dim, index, 1, tuple(shape))
        self._emit_reshape(node, taken, tuple(shape))

    def _permute(self, node: fx.Node, given: dict[str, Any]) -> None:
        rank = len(node.meta["val"].shape)
        order = [dim % rank for dim in given["dims"]]
        self._emit_permute(node, given["self"], order)

    def _transpose(self, node: fx.Node, given: dict[str, Any]) -> None:
        order = list(range(len(node.meta["val"].shape)))
        first, second = given["dim0"] % len(order), given["dim1"] % len(order)
        order[first], order[second] = order[second], order[first]
        self._emit_permute(node, given["self"], order)

    def _emit_permute(self, node: fx.Node, read: Any, order: list[int]) -> None:
        if order[0] != 0:
            raise self._unknown(node, "a permutation of the batch")
        self._emit(node, "permute", [read], dims=tuple(order[1:]))

    def _view(self, node: fx.Node, given: dict[str, Any]) -> None:
        read = given["self"]
        if read.name in self._tensors:
            shape = tuple(int(size) for size in node.meta["val"].shape)
            self._values[node.name] = self._parameter(read, shape, node)
            return
        if self._is_parameter(read, node):
            return
        self._emit_reshape(
            node, self._value(read, node), tuple(int(n) for n in read.meta["val"].shape[1:])
        )

    def _is_parameter(self, read: fx.Node, node: fx.Node) -> bool:
        """Whether a parameter is seen in another shape once more; then the operator says so."""
        made = next((one for one in self._operators if one.id == self._values.get(read.name)), None)
        if made is None or made.batched:
            return False
        shape = tuple(int(size) for size in node.meta["val"].shape)
        while shape and shape[0] == 1:
            shape = shape[1:]
        made.sizes = shape
        self._values[node.name] = made.id
        return True

    def _emit_reshape(self, node: fx.Node, of: str, before: tuple[int, ...]) -> None:
        """One or two operators: first axes are merged, then unfolded."""
        after = tuple(int(size) for size in node.meta["val"].shape[1:])
        if int(node.meta["val"].shape[0]) != BATCH:
            raise self._unknown(node, "a view that joins the batch with other axes")
        groups = _matched(before, after)
        merges = [len(old) for old, _ in groups]
        path, kind = self._module(node)
        if any(number > 1 for number in merges):
            sizes = tuple(math.prod(old) for old, _ in groups)
            made = Operator(
                self._unique(path, "reshape", owns=False), "reshape", [of], sizes, path, kind
            )
            made.attributes["axes"] = tuple(merges)
            self._operators.append(made)
            of = made.id
        if any(len(new) > 1 for _, new in groups):
            made = Operator(
                self._unique(path, "reshape", owns=False), "reshape", [of], after, path, kind
            )
            made.wants = [new if len(new) > 1 else 1 for _, new in groups]
            self._operators.append(made)
            of = made.id
        self._values[node.name] = of

    def _stack(self, node: fx.Node, given: dict[str, Any]) -> None:
        raise self._unknown(node, "stack")

    def _matmul(self, node: fx.Node, given: dict[str, Any]) -> None:
        first = given.get("self", given.get("input"))
        second = given.get("other", given.get("mat2"))
        self._emit(node, "matmul", [first, second])

    def _softmax(self, node: fx.Node, given: dict[str, Any]) -> None:
        dims = self._dims(given["self"], [given["dim"]], node)
        self._emit(node, "softmax", [given["self"]], dims=dims)

    def _hardtanh(self, node: fx.Node, given: dict[str, Any]) -> None:
        low = given.get("min_val", given.get("min"))
        high = given.get("max_val", given.get("max"))
        if low is None or high is None:
            raise self._unknown(node, "a clamp of one side")
        self._emit(node, "clamp", [given["self"]], low=low, high=high)

    def _relu6(self, node: fx.Node, given: dict[str, Any]) -> None:
        self._emit(node, "clamp", [given["self"]], low=0.0, high=6.0)

    def _leaky_relu(self, node: fx.Node, given: dict[str, Any]) -> None:
        self._emit(node, "leaky_relu", [given["self"]], value=given["negative_slope"])

    def _elu(self, node: fx.Node, given: dict[str, Any]) -> None:
        if given["scale"] != 1 or given["input_scale"] != 1:
            raise self._unknown(node, "elu with a scale")
        self._emit(node, "elu", [given["self"]], value=given["alpha"])

    def _gelu(self, node: fx.Node, given: dict[str, Any]) -> None:
        is_tanh = given["approximate"] == "tanh"
        self._emit(node, "gelu_tanh" if is_tanh else "gelu", [given["self"]])

    def _dropout(self, node: fx.Node, given: dict[str, Any]) -> None:
        self._emit(node, "dropout", [given.get("input", given.get("self"))])

    def _pad(self, node: fx.Node, given: dict[str, Any]) -> None:
        if given.get("mode", "constant") != "constant" or given.get("value") not in (None, 0, 0.0):
            raise self._unknown(node, "padding that is not zeros")
        if min(given["pad"]) < 0 or len(given["pad"]) > 4:
            raise self._unknown(node, "padding of other axes than rows and columns")
        if not any(given["pad"]):
            self._values[node.name] = self._value(given["self"], node)
            return
        self._emit(node, "pad", [given["self"]], margins=tuple(given["pad"]))

    # -- names and refusals ------------------------------------------------------------------------

    def _dims(self, read: fx.Node, dims: Any, node: fx.Node) -> tuple[int, ...]:
        rank = len(read.meta["val"].shape)
        found = tuple(sorted(dim % rank for dim in ([dims] if isinstance(dims, int) else dims)))
        if 0 in found:
            raise self._unknown(node, "an operation along the batch")
        return found

    def _module(self, node: fx.Node) -> tuple[str, str]:
        """(path, class) of the module in which a node was called."""
        stack = node.meta.get("nn_module_stack") or {}
        if not stack:
            return "", ""
        path, kind = list(stack.values())[-1]
        return str(path), str(kind).rpartition(".")[2]

    def _where(self, node: fx.Node) -> str:
        """The module and the line of the user's code behind a node."""
        path = self._module(node)[0]
        lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
        files = [line for line in lines if line.startswith("File ")]
        user = [line for line in files if "/torch/nn/modules/" not in line]
        line = ""
        if user:
            file, number = user[-1].split('"')[1], user[-1].split("line ")[1].split(",")[0]
            line = f" ({file.rpartition('/')[2]}:{number})"
        return f"{self._name}.{path}{line}" if path else f"{self._name}{line}"

    def _unknown(self, node: fx.Node, what: str) -> AdoptionError:
        return AdoptionError(
            f"{what} is no operator that a graph can hold",
            where=self._where(node),
            fix="write it with convolutions, linears, norms, pooling, activations and reshapes",
        )

    def _unique(self, path: str, op: str, *, owns: bool) -> str:
        """A name that no other value has: the module's path, and what is done there."""
        name = path if owns and path else f"{path}.{op}".strip(".")
        found, number = name, 1
        while found in self._ids:
            number += 1
            found = f"{name}_{number}"
        self._ids.add(found)
        return found


_NOTHING = {
    "contiguous": "self",
    "clone": "self",
    "detach": "self",
    "alias": "self",
    "lift_fresh_copy": "self",
    "identity": "self",
    "feature_dropout": "input",
    "alpha_dropout": "input",
}
_UNARY = {
    name: name
    for name in ("relu", "hardswish", "hardsigmoid", "sigmoid", "silu", "mish", "tanh", "softplus")
}
_CALLED = {
    **dict.fromkeys(("add", "sub", "mul", "div"), "arithmetic"),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), "adaptive_pool"),
    **dict.fromkeys(("split", "split_with_sizes"), "chunk"),
    **dict.fromkeys(
        ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view"), "view"
    ),
    **dict.fromkeys(("bmm", "matmul"), "matmul"),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d"), "upsample"),
    "clamp": "hardtanh",
    "constant_pad_nd": "pad",
}
_VIEWS = {"view", "slice", "select", "chunk", "split", "permute", "transpose", "flatten", "unfold"}


def _given(**attributes: Any) -> dict[str, Any]:
    """The attributes that say something."""
    return {name: value for name, value in attributes.items() if value is not None}


def _pair(value: Any) -> tuple[Any, Any]:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[-1])


def _matched(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The axes before and after a reshape in the smallest groups that hold equally many elements.

    An axis of size 1 that one side has more is taken to the group before.
    """
    groups: list[tuple[list[int], list[int]]] = []
    left, right = list(before), list(after)
    while left or right:
        old = [left.pop(0)] if left else []
        new = [right.pop(0)] if right else []
        while math.prod(old) != math.prod(new):
            if math.prod(old) < math.prod(new):
                old.append(left.pop(0))
            else:
                new.append(right.pop(0))
        groups.append((old, new))
    joined: list[tuple[list[int], list[int]]] = []
    for old, new in groups:
        if (not old or not new) and joined:
            joined[-1][0].extend(old)
            joined[-1][1].extend(new)
        else:
            joined.append((old, new))
    return [(tuple(old), tuple(new)) for old, new in joined]


def _alive(operators: list[Operator], results: Sequence[str]) -> list[Operator]:
    """The operators that the results need, in order."""
    needed = set(results)
    kept = []
    for made in reversed(operators):
        if made.id in needed:
            needed.update(made.of)
            kept.append(made)
    return kept[::-1]
