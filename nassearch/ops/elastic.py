"""The elastic form of any op: one set of weights, sliced by views for each block it can be.

`Elastic.weights(spec)` is the only place where weights are sliced. The supernet's forward runs the
static op over these views, and extraction copies the same views into a static op, so the two agree
by construction.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nassearch.ops.layer import DropPath, StaticOp, with_norm_eps
from nassearch.space import BlockSpec

Built = TypeVar("Built", bound=nn.Module)
Segments = tuple[tuple[int, ...], ...]  # for each axis of a tensor, the lengths it is made of


class Elastic(nn.Module):
    """One op with weights shared over every block in `specs`.

    A block uses the leading channels of each shared tensor (of each of its segments, where the op
    says that it has several) and the centre of each kernel. Where
    kernel sizes vary, a smaller kernel is the centre of the next larger one times a learned matrix,
    shared over channels and at first the identity (Cai et al., "Once-for-All", ICLR 2020, 3.3).
    """

    def __init__(self, op: type[StaticOp], specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        self._op = op.training_form()
        self.specs = tuple(specs)
        self.compiles = False
        """Whether each block is compiled (torch.compile) when it first runs."""
        self._bound: dict[BlockSpec, _Bound] = {}
        full: dict[str, torch.Size] = {}
        examples: dict[str, tuple[int, BlockSpec]] = {}  # the largest tensor of a name, whose it is
        kernels: dict[str, set[tuple[int, int]]] = {}
        self.segments: dict[str, Segments] = {}
        """Tensor -> the lengths that each axis of the shared tensor is made of, where several."""
        for spec in self._op.of_full_shape(_of_different_shape(specs)):
            form = self._form(spec)
            for name, segments in form.segments.items():
                known = self.segments.get(name, segments)
                self.segments[name] = tuple(
                    tuple(map(max, pair[0], pair[1])) for pair in zip(known, segments, strict=True)
                )
            for name, shape in form.shapes.items():
                full[name] = torch.Size(map(max, full.get(name, shape), shape))
                if name not in examples or shape.numel() > examples[name][0]:
                    examples[name] = (shape.numel(), spec)
                if len(shape) == 4:
                    kernels.setdefault(name, set()).add((shape[2], shape[3]))
        largest = dict.fromkeys(spec for _, spec in examples.values())
        built = {spec: dict(_tensors(self._op(spec))) for spec in largest}
        for name, (_, spec) in examples.items():
            _place(self, name, _grown(built[spec][name], full[name]))
        # name -> kernel shapes from the largest to the smallest
        self._kernels = {
            name: sorted(shapes, reverse=True)
            for name, shapes in kernels.items()
            if len(shapes) > 1
        }
        for name, shapes in self._kernels.items():
            for larger, smaller in pairwise(shapes):
                weights = smaller[0] * smaller[1]
                _place(
                    self, _transform_name(name, larger, smaller), nn.Parameter(torch.eye(weights))
                )

    def forward(
        self,
        images: Tensor,
        spec: BlockSpec,
        *taps: Tensor,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> Tensor:
        """The output of the block `spec`, computed with its slice of the weights.

        A head that was traced may read more (`taps`), and give several tensors, a tuple.

        In training, `dropout` and `drop_path` are the rates of the block's layers of that kind.
        """
        bound = self._bind(spec)
        if bound.twin.training != self.training:
            bound.twin.train(self.training)
        for layer in bound.dropouts:
            layer.p = dropout
        for path in bound.drop_paths:
            path.p = drop_path
        for table, leaf, tensor in bound.slices(self):
            table[leaf] = tensor
        out: Tensor = bound.twin(images, *taps)
        if self.training:
            for cut in bound.copied_statistics:
                cut.write_back()
        return out

    def weights(self, spec: BlockSpec) -> dict[str, Tensor]:
        """The tensors of the block `spec` by the names of its static form, views where possible."""
        bound = self._bind(spec)
        return {
            cut.name: tensor
            for cut, (_, _, tensor) in zip(bound.cuts, bound.slices(self), strict=True)
        }

    def shapes(self, spec: BlockSpec) -> Mapping[str, torch.Size]:
        """The shape of each tensor of the block `spec`, which need not be one of `specs`."""
        return self._form(spec).shapes

    def shared_shapes(self) -> dict[str, torch.Size]:
        """The shape of the part of each tensor that all blocks which have it use."""
        shared: dict[str, torch.Size] = {}
        for spec in _of_different_shape(self.specs):
            for name, shape in self.shapes(spec).items():
                shared[name] = torch.Size(map(min, shared.get(name, shape), shape))
        return shared

    def sortable(self) -> bool:
        """Whether the inner channels of all these blocks may change places together."""
        return all(self._op.sortable(spec) for spec in self.specs)

    def extract(self, spec: BlockSpec) -> StaticOp:
        """The block `spec` as a plain module with its own copy of the weights."""
        bound = self._bind(spec)
        copies: dict[Tensor, Tensor] = {}
        for cut, (table, leaf, shared) in zip(bound.cuts, bound.slices(self), strict=True):
            own = shared.detach().clone(memory_format=torch.contiguous_format)
            copies[table[leaf]] = nn.Parameter(own) if cut.learned else own
        plain = _copied(bound.twin, copies).train(self.training).reparameterize()
        return with_norm_eps(plain, spec)

    def _bind(self, spec: BlockSpec) -> "_Bound":
        if spec not in self._bound:
            self._bound[spec] = _Bound(self, _twin(self._op, spec), self._kernels, self.segments)
            if self.compiles:
                self._bound[spec].twin.compile()
        return self._bound[spec]

    def _form(self, spec: BlockSpec) -> "_Form":
        return _form(self._op, spec)  # type: ignore[arg-type]  # classes are hashable

    def __getstate__(self) -> dict[str, Any]:
        # The twins hold views into this module's tensors: a copy must make its own.
        return {**self.__dict__, "_bound": {}}


def _twin(op: type[StaticOp], spec: BlockSpec) -> StaticOp:
    """The static form of `spec` without storage; each use sets its tensors to views."""
    with torch.device("meta"), Uninitialised():
        return with_norm_eps(op(spec), spec)


class _Form(NamedTuple):
    """What tensors a block has."""

    shapes: Mapping[str, torch.Size]
    segments: Mapping[str, Segments]


@lru_cache(maxsize=8192)  # building blocks takes most of the time that a supernet takes to build
def _form(op: type[StaticOp], spec: BlockSpec) -> _Form:
    twin = _twin(op, spec)
    return _Form({name: tensor.shape for name, tensor in _tensors(twin)}, dict(twin.segments()))


def _copied(module: Built, tensors: Mapping[Tensor, Tensor]) -> Built:
    """`module` with other tensors; building it again or `deepcopy` takes many times as long."""
    copied = module.__new__(type(module))
    for name, value in module.__dict__.items():
        copied.__dict__[name] = value.copy() if isinstance(value, dict | set | list) else value
    copied.__dict__["_compiled_call_impl"] = None
    for table in (copied._parameters, copied._buffers):
        for leaf, tensor in table.items():
            if tensor is not None:
                table[leaf] = tensors[tensor]  # type: ignore[assignment]
    for name, child in module._modules.items():
        copied._modules[name] = None if child is None else _copied(child, tensors)
    return copied


class Uninitialised(TorchFunctionMode):
    """Tensors built here keep whatever they hold: filling them takes most of a module's time."""

    _FILLS = frozenset(
        getattr(torch.Tensor, name) for name in ("uniform_", "normal_", "fill_", "zero_")
    )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return args[0] if func in self._FILLS else func(*args, **(kwargs or {}))


class _Cut:
    """How one tensor of a block is cut out of the shared one."""

    __slots__ = ("kernels", "leaf", "learned", "name", "narrow", "pieces", "source", "table")

    def __init__(
        self,
        elastic: Elastic,
        twin: StaticOp,
        name: str,
        shape: torch.Size,
        kernels: Sequence[tuple[int, int]],
        segments: Sequence[tuple[Sequence[int], Sequence[int]]],
    ) -> None:
        self.name = name
        owner, self.leaf = _owner(elastic, name)
        self.source = _table(owner, self.leaf)
        self.table = _table(*_owner(twin, name))
        shared = self.source[self.leaf]
        self.learned = isinstance(shared, nn.Parameter)
        full = shared.shape
        spatial = range(2, 4) if len(kernels) > 1 else range(0)
        smaller = [
            dim
            for dim, (size, limit) in enumerate(zip(shape, full, strict=True))
            if size < limit and dim not in spatial
        ]
        # an axis of several segments (of concatenated tensors, say) is cut in each of them
        self.pieces = tuple(
            (dim, tuple(_pieces(*segments[dim])))
            for dim in smaller
            if dim < len(segments) and len(segments[dim][0]) > 1
        )
        parted = [dim for dim, _ in self.pieces]
        self.narrow = tuple((dim, shape[dim]) for dim in smaller if dim not in parted)
        # from the largest kernel down to this one's
        self.kernels = tuple(kernels[: kernels.index((shape[2], shape[3])) + 1]) if spatial else ()

    def apply(self, elastic: Elastic) -> Tensor:
        tensor: Tensor = self.source[self.leaf]  # a module's own lookup is much slower
        for dim, size in self.narrow:
            tensor = tensor.narrow(dim, 0, size)
        for dim, pieces in self.pieces:
            tensor = torch.cat([tensor.narrow(dim, start, size) for start, size in pieces], dim)
        for larger, smaller in pairwise(self.kernels):
            top, left = (larger[0] - smaller[0]) // 2, (larger[1] - smaller[1]) // 2
            tensor = tensor[:, :, top : top + smaller[0], left : left + smaller[1]]
            matrix = _find(elastic, _transform_name(self.name, larger, smaller))
            assert matrix is not None
            tensor = F.linear(tensor.flatten(2), matrix).unflatten(2, smaller)
        return tensor

    def write_back(self) -> None:
        """Put what a block made of its copy, joined from pieces, into the shared vector."""
        ((_, pieces),) = self.pieces
        shared, first = self.source[self.leaf], 0
        for start, size in pieces:
            shared[start : start + size] = self.table[self.leaf][first : first + size]
            first += size


def _pieces(sizes: Sequence[int], limits: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(start, length) of the leading part of each segment."""
    start = 0
    for size, limit in zip(sizes, limits, strict=True):
        yield start, size
        start += limit


class _Bound:
    """The static twin of one block and how its tensors are cut."""

    __slots__ = ("copied_statistics", "cuts", "drop_paths", "dropouts", "twin")

    def __init__(
        self,
        elastic: Elastic,
        twin: StaticOp,
        kernels: Mapping[str, Sequence[tuple[int, int]]],
        segments: Mapping[str, Segments],
    ) -> None:
        self.twin = twin
        own = twin.segments()
        self.dropouts = [layer for layer in twin.modules() if isinstance(layer, nn.Dropout)]
        self.drop_paths = [layer for layer in twin.modules() if isinstance(layer, DropPath)]
        self.cuts = [
            _Cut(
                elastic,
                twin,
                name,
                tensor.shape,
                kernels.get(name, ()),
                tuple(zip(own.get(name, ()), segments.get(name, ()), strict=True)),
            )
            for name, tensor in _tensors(twin)
        ]
        self.copied_statistics = [cut for cut in self.cuts if cut.pieces and not cut.learned]
        """Running statistics that are no views of the shared ones."""

    def slices(self, elastic: Elastic) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
        for cut in self.cuts:
            yield cut.table, cut.leaf, cut.apply(elastic)


def _of_different_shape(specs: Sequence[BlockSpec]) -> Iterable[BlockSpec]:
    """The specs without repetitions in what no kernel depends on: resolution and activation."""
    return {
        replace(
            spec,
            resolution=specs[0].resolution,
            taps=tuple(
                (channels, pixels)
                for (channels, _), (_, pixels) in zip(spec.taps, specs[0].taps, strict=True)
            ),
            choices=tuple(choice for choice in spec.choices if choice[0] != "activation"),
        ): None
        for spec in specs
    }


def _grown(tensor: Tensor, shape: torch.Size) -> Tensor:
    """`tensor` repeated up to `shape`: no block alone need be the largest in every dimension."""
    if tensor.shape == shape:
        return tensor
    grown = tensor.detach()
    for dim, size in enumerate(shape):
        grown = grown.index_select(dim, torch.arange(size) % tensor.shape[dim])
    return nn.Parameter(grown) if isinstance(tensor, nn.Parameter) else grown


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _transform_name(name: str, larger: tuple[int, int], smaller: tuple[int, int]) -> str:
    """The learned matrix beside a weight: 'body.conv.weight' -> 'body.conv.kernel_7to5'."""
    path = name.rpartition(".")[0]
    sizes = [str(k[0]) if k[0] == k[1] else f"{k[0]}x{k[1]}" for k in (larger, smaller)]
    return f"{path}.kernel_{sizes[0]}to{sizes[1]}"


def _owner(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return root.get_submodule(path), leaf


def _table(owner: nn.Module, leaf: str) -> dict[str, Any]:
    table: dict[str, Any] = owner._parameters if leaf in owner._parameters else owner._buffers
    return table


def _find(root: nn.Module, name: str) -> Tensor | None:
    try:
        owner, leaf = _owner(root, name)
    except AttributeError:
        return None
    found: Tensor | None = getattr(owner, leaf, None)
    return found


def _place(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Register `tensor` under a dotted name, with plain modules on the way."""
    *path, leaf = name.split(".")
    owner = root
    for part in path:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner._modules[part]  # type: ignore[assignment]
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, tensor)
    else:
        owner.register_buffer(leaf, tensor)


def elastic_specs(specs: Iterable[BlockSpec | None]) -> dict[str, list[BlockSpec]]:
    """The specs of one place in a space, by op."""
    grouped: dict[str, dict[BlockSpec, None]] = {}
    for spec in specs:
        if spec is not None:
            grouped.setdefault(spec.op, {})[spec] = None
    return {op: list(own) for op, own in grouped.items()}
