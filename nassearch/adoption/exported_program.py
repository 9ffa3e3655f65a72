"""Reads a program that torch.export made into operators; what no rule translates is refused."""

import operator
from collections.abc import Callable, Mapping, Sequence
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
    """Reads an exported program into operators, each by the rule of its name."""

    def __init__(self, program: Any, name: str, rules: Mapping[str, "Rule"]) -> None:
        self._program = program
        self._name = name
        self._rules = rules
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
        rule = self._rules.get(name)
        if rule is None:
            raise self.unknown(node, name)
        rule(self, node, arguments)
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

    def emit(
        self,
        node: fx.Node,
        op: str,
        reads: Sequence[Any],
        *,
        tensors: dict[str, Any] | None = None,
        wants: Any = None,
        **attributes: Any,
    ) -> None:
        """Let a node's value be that of an operator; `tensors` are those of the module it owns."""
        value = node.meta["val"]
        shape = tuple(int(size) for size in value.shape)
        of = [self.value(read, node) for read in reads]
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
        made = self.add(node, op, of, shape[1:], wants=wants, owns=bool(tensors), **attributes)
        for leaf, tensor in (tensors or {}).items():
            if tensor is not None:
                made.tensors[leaf] = self._own(tensor, node)
        self._values[node.name] = made.id

    def add(
        self,
        node: fx.Node,
        op: str,
        of: Sequence[str],
        sizes: tuple[int, ...],
        *,
        wants: Any = None,
        owns: bool = False,
        **attributes: Any,
    ) -> Operator:
        """An operator of values that are known already; the node's own value is not set."""
        path, kind = self._module(node)
        made = Operator(
            self._unique(path, op, owns=owns), op, [*of], sizes, path, kind, attributes, wants=wants
        )
        self._operators.append(made)
        return made

    def pass_on(self, node: fx.Node, value: str | list[str]) -> None:
        """Let a node's value be one that is there already, or several."""
        self._values[node.name] = value

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

    def value(self, read: Any, node: fx.Node) -> str:
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

    def reshaped_parameter(self, read: fx.Node, node: fx.Node) -> bool:
        """Whether `node` is a parameter in another shape; then its operator has that shape."""
        shape = tuple(int(size) for size in node.meta["val"].shape)
        if read.name in self._tensors:
            self._values[node.name] = self._parameter(read, shape, node)
            return True
        made = next((one for one in self._operators if one.id == self._values.get(read.name)), None)
        if made is None or made.batched:
            return False
        made.sizes = _without_ones(shape)
        self._values[node.name] = made.id
        return True

    def _parameter(self, read: fx.Node, shape: tuple[int, ...], node: fx.Node) -> str:
        name = self._tensors[read.name]
        if name in self._program.graph_signature.buffers:
            raise AdoptionError(
                f"reads the buffer {name}",
                where=self._where(node),
                fix="keep it as an nn.Parameter of the module, or write it as a number",
            )
        self._own(read, node)
        path = name.rpartition(".")[0]
        made = Operator(
            self._unique(name, "parameter", owns=True),
            "parameter",
            [],
            _without_ones(shape),
            path,
            self._module(node)[1],
            {},
            {"value": name},
            batched=False,
        )
        self._operators.append(made)
        self._values[read.name] = made.id
        return made.id

    # -- names and refusals ------------------------------------------------------------------------

    def dims(self, read: fx.Node, dims: Any, node: fx.Node) -> tuple[int, ...]:
        rank = len(read.meta["val"].shape)
        found = tuple(sorted(dim % rank for dim in ([dims] if isinstance(dims, int) else dims)))
        if 0 in found:
            raise self.unknown(node, "an operation along the batch")
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

    def unknown(self, node: fx.Node, what: str) -> AdoptionError:
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


Rule = Callable[[ProgramReader, fx.Node, dict[str, Any]], None]
"""Reads a node, whose arguments are given by name, into operators."""

_VIEWS = {"view", "slice", "select", "chunk", "split", "permute", "transpose", "flatten", "unfold"}


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A parameter's shape without leading axes of size 1."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _alive(operators: list[Operator], results: Sequence[str]) -> list[Operator]:
    """The operators that the results need, in order."""
    needed = set(results)
    kept = []
    for made in reversed(operators):
        if made.id in needed:
            needed.update(made.of)
            kept.append(made)
    return kept[::-1]
