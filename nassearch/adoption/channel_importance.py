"""The channels of every dependency group by importance, the largest network unchanged.

A subnet takes the leading channels of each group, so the important ones come first. The importance
of a channel is the L1 norm of the weights that read it (Cai et al., "Once-for-All", ICLR 2020,
3.3), summed over all the layers that read the group.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from nassearch.adoption.dependency import LAYERS, Dependencies
from nassearch.space.graph_config import CONSTANT, INPUT, Axis

Orders = Mapping[str, Tensor]


def sorted_tensors(found: Dependencies, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's tensors by name, channels in order; what has no group stays as it is."""
    orders = channel_orders(found, tensors)
    result = dict(tensors)
    for operator in found.operators:
        if not operator.tensors:
            continue
        for leaf, name in operator.tensors.items():
            axes = found.tensor_axes(operator, leaf)
            tensor = tensors[name]
            if operator.op == "parameter":
                result[name] = _ordered_parameter(tensor, axes, found, orders)
                continue
            for dim, axis in enumerate(axes[: tensor.dim()]):
                index = _positions(axis, found, orders)
                if index is not None:
                    result[name] = result[name].index_select(dim, index)
    return result


def channel_orders(found: Dependencies, tensors: Mapping[str, Tensor]) -> Orders:
    """Symbol -> its channels from the most to the least important."""
    importance: dict[str, Tensor] = {}
    for operator in found.operators:
        if operator.op not in LAYERS:
            continue
        weight = tensors[operator.tensors["weight"]].detach().abs()
        dim = 0 if operator.op == "conv_transpose" else 1  # of what is read
        axis = found.tensor_axes(operator)[dim]
        read = weight.movedim(dim, 0).flatten(1).sum(1)
        start = 0
        for symbol, count in axis:
            size = count if symbol == CONSTANT else count * found.table.full[symbol]
            if symbol != CONSTANT:
                strength = read[start : start + size].reshape(-1, count).sum(1)
                importance[symbol] = importance.get(symbol, torch.zeros(())) + strength
            start += size
    kept = _unmovable(found)
    return {
        symbol: strength.argsort(descending=True, stable=True)
        for symbol, strength in importance.items()
        if symbol not in kept
    }


def _unmovable(found: Dependencies) -> set[str]:
    """The image's channels, those of what is given, and what is regrouped on the way."""
    ends = (*found.axes(INPUT), *(axis for one in found.outputs for axis in found.axes(one)))
    named = {symbol for axis in ends for symbol, _ in axis}
    mixed = {
        symbol for name in found.table.mixed for symbol, _ in found.table.resolve(((name, 1),))
    }
    return named | mixed


def _positions(axis: Axis, found: Dependencies, orders: Orders) -> Tensor | None:
    """The channels of an axis in their new order; None where it is the old one."""
    if not any(symbol in orders for symbol, _ in axis):
        return None
    positions, start = [], 0
    for symbol, count in axis:
        if symbol == CONSTANT:
            positions.append(torch.arange(start, start + count))
            start += count
            continue
        size = found.table.full[symbol]
        order = orders.get(symbol)
        order = torch.arange(size) if order is None else order
        positions.append((order[:, None] * count + torch.arange(count)).flatten() + start)
        start += size * count
    return torch.cat(positions)


def _ordered_parameter(
    tensor: Tensor, axes: tuple[Axis, ...], found: Dependencies, orders: Orders
) -> Tensor:
    """A parameter that is read as it is; its own shape may have more axes of size 1."""
    shaped = tensor.reshape([found.table.size(axis) for axis in axes])
    for dim, axis in enumerate(axes):
        index = _positions(axis, found, orders)
        shaped = shaped if index is None else shaped.index_select(dim, index)
    return shaped.reshape(tensor.shape)
