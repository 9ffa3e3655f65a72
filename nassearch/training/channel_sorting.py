"""Sorting inner channels in the middle of a training: weights, their average, optimizer state."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nassearch.ops import Elastic
from nassearch.ops.channel_order import order_channels


def sort_channels(
    supernet: nn.Module, *, optimizer: torch.optim.Optimizer, followers: Sequence[nn.Module] = ()
) -> None:
    """Put the inner channels of every elastic block in order of importance, in place.

    The largest network computes what it did, and its next optimizer step is the one it would have
    been: momenta move with their weights. `followers` are copies of the supernet (an average of its
    weights) whose channels move alike.
    """
    copies = [_tensors(follower) for follower in followers]
    for path, module in supernet.named_modules():
        order = order_channels(module) if isinstance(module, Elastic) else None
        if order is None:
            continue
        own = _tensors(module)
        for name in order.dims:
            order.apply(name, own[name])
            for copy in copies:
                order.apply(name, copy[f"{path}.{name}"])
            state: Mapping[str, Tensor] = optimizer.state.get(own[name], {})
            for moment in state.values():
                if isinstance(moment, Tensor) and moment.shape == own[name].shape:
                    order.apply(name, moment)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
