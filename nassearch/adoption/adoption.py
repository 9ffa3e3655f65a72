"""A user's network as a search space and a supernet that computes what the network computes."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nassearch.adoption.channel_importance import sorted_tensors
from nassearch.adoption.dependency import Dependencies, find_dependencies
from nassearch.adoption.elastic_space import Cell, Elasticity, ElasticSpace, elastic_space
from nassearch.adoption.layer_report import LayerReport, layer_reports
from nassearch.adoption.partition import partition
from nassearch.adoption.trace import named_outputs, trace
from nassearch.errors import AdoptionError
from nassearch.networks import Supernet
from nassearch.networks.cost import count, network_cost
from nassearch.networks.wiring import relative_difference
from nassearch.ops.elastic import Uninitialised
from nassearch.space import SearchSpace, lower

TOLERANCE = 1e-5
_IMAGES = 3


@dataclass(frozen=True)
class Adoption:
    """A network that was adopted.

    `supernet` holds its weights, channels sorted by importance; `layers` says of each layer what is
    elastic and what is not, and why; `change` is the largest difference between what the module
    and the largest network give, over the largest value.
    """

    space: SearchSpace
    supernet: Supernet
    layers: tuple[LayerReport, ...]
    change: float
    params: int
    macs: int

    @property
    def fixed(self) -> tuple[LayerReport, ...]:
        """The layers of which nothing is elastic."""
        return tuple(layer for layer in self.layers if not layer.is_elastic)


def adopt(
    module: nn.Module,
    example: Tensor,
    *,
    name: str = "",
    elasticity: Elasticity | None = None,
    sort_channels: bool = True,
) -> Adoption:
    """A search space and a supernet of a network.

    Args:
        module: A network for images: a classifier, or one that gives feature maps or what a head
            makes of them, as a tensor, or a dict, tuple or list of them; it stays as it is.
        example: One image, (1, channels, size, size), as the network takes them.
        name: What the space is called; by default as the module's class.
        elasticity: What may be elastic, by default all that can be.
        sort_channels: Whether important channels come first in each group.

    Raises:
        AdoptionError: the module cannot be traced, or is no network of blocks in a row.
    """
    name = name or type(module).__name__
    elasticity = elasticity or Elasticity()
    traced = trace(module, example, name=name, outputs=elasticity.outputs)
    _check_fixed(module, elasticity, name)
    found = find_dependencies(traced, fixed=elasticity.fixed)
    parts = partition(traced, found, name=name, keep_outputs=elasticity.keep_outputs)
    adopted = elastic_space(traced, found, parts, name=name, elasticity=elasticity)
    with Uninitialised():  # the module's weights follow
        supernet = Supernet(adopted.space).eval()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    plain = {key: tensor.detach() for key, tensor in tensors.items()}
    _check_all_used(module, found, name)
    _write(supernet, adopted, plain)
    change = _difference(module, supernet, example, elasticity.outputs)
    if change > TOLERANCE:
        raise AdoptionError(
            f"is computed otherwise by its graph: outputs differ by {change:.2g} of the largest",
            where=name,
            fix="look for what is changed in place while others read it, and write x = x + y",
        )
    if sort_channels:
        _write(supernet, adopted, sorted_tensors(found, plain))
        change = _difference(module, supernet, example, elasticity.outputs)
    specs = lower(adopted.space, adopted.space.largest)
    counted = network_cost(specs)
    return Adoption(
        adopted.space,
        supernet,
        tuple(layer_reports(adopted, found)),
        change,
        counted.params,
        counted.macs,
    )


def module_cost(module: nn.Module, example: Tensor, *, name: str) -> tuple[int, int]:
    """(parameters, multiply-accumulates) of a module as it is."""
    counted = count(copy.deepcopy(module).eval(), example, name=name)
    return counted.params, counted.macs


def _check_fixed(module: nn.Module, elasticity: Elasticity, name: str) -> None:
    known = {path for path, _ in module.named_modules()}
    for path in elasticity.fixed:
        if path not in known:
            near = [one for one in known if one.endswith(path.rpartition(".")[2])]
            raise AdoptionError(
                f"has no module '{path}'",
                where=f"{name}, --fixed",
                fix=f"name one of its modules, {', '.join(sorted(near or known)[1:6])}",
            )


def _check_all_used(module: nn.Module, found: Dependencies, name: str) -> None:
    """AdoptionError where parameters have no part in what the module gives."""
    used = {tensor for operator in found.operators for tensor in operator.tensors.values()}
    idle = [path for path, _ in module.named_parameters() if path not in used]
    if idle:
        raise AdoptionError(
            f"{idle[0]} has no part in its output ({len(idle)} parameters like it)",
            where=name,
            fix="leave out what only training uses (an auxiliary classifier), or layers not called",
        )


def _cells(adopted: ElasticSpace) -> list[tuple[str, Cell]]:
    """The supernet's module path of each part."""
    cells = [
        (f"stages.{stage}.{number}.traced", cell)
        for stage, cells in enumerate(adopted.stages)
        for number, cell in enumerate(cells)
    ]
    return cells if adopted.head is None else [*cells, ("head.traced", adopted.head)]


def _write(supernet: Supernet, adopted: ElasticSpace, tensors: Mapping[str, Tensor]) -> None:
    """Put the module's tensors where the supernet has them."""
    state = supernet.state_dict()
    with torch.no_grad():
        for path, cell in _cells(adopted):
            for own, name in cell.tensors.items():
                target = state[f"{path}.{own}"]
                target.copy_(tensors[name].reshape(target.shape))


def _difference(
    module: nn.Module, supernet: Supernet, example: Tensor, names: Sequence[str] | None
) -> float:
    """The largest difference of an output, over its largest value, for random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_IMAGES, *example.shape[1:], generator=generator)
    space = supernet.space
    largest = space.largest
    reference = copy.deepcopy(module).eval()
    with torch.no_grad():
        expected = reference(images)
        actual = supernet(images, largest, resolution=example.shape[-1])
    if space.definition.outputs is not None:
        expected = named_outputs(expected, names, name=space.name)
    return relative_difference(actual, expected)
