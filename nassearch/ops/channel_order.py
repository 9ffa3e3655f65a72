"""The order of a block's inner channels: the important ones first, what it computes unchanged."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nassearch.ops.elastic import Elastic
from nassearch.space import BlockSpec


@dataclass(frozen=True)
class ChannelOrder:
    """Inner channels from the most to the least important, int64 (channels,).

    `dims` names every tensor that runs over them, and along which of its dimensions.
    """

    order: Tensor
    dims: dict[str, tuple[int, ...]]

    def apply(self, name: str, tensor: Tensor) -> None:
        """Put the channels of `tensor` in order, in place; it has the shape of `name`'s weights."""
        with torch.no_grad():
            for dim in self.dims[name]:
                tensor.copy_(tensor.index_select(dim, self.order.to(tensor.device)))


def order_channels(elastic: Elastic) -> ChannelOrder | None:
    """The inner channels of a block by importance, over their full range.

    None where their order says nothing (the expand ratio is fixed) or is not free (neighbours are
    mixed by groups or by ECA). The importance of a channel is the L1 norm of the weights that lead
    from it out of the block (Cai et al., "Once-for-All", ICLR 2020, 3.3).
    """
    ratios = [_ratio(spec) for spec in elastic.specs]
    if min(ratios) == max(ratios) or not elastic.sortable():
        return None
    grown: dict[str, tuple[int, ...]] = {}
    for spec, ratio in zip(elastic.specs, ratios, strict=True):
        if ratio == max(ratios):
            grown.update(_grown_dims(elastic, spec))
    tensors = {**dict(elastic.named_parameters()), **dict(elastic.named_buffers())}
    # squeeze-and-excite's own channels grow too, but there are fewer of them
    count = max(tensors[name].shape[dim] for name, dims in grown.items() for dim in dims)
    inner = {
        name: kept
        for name, dims in grown.items()
        if (kept := tuple(dim for dim in dims if tensors[name].shape[dim] == count))
    }
    leading = [tensors[name] for name, dims in inner.items() if dims == grown[name] == (1,)]
    importance = torch.stack([w.detach().abs().transpose(0, 1).flatten(1).sum(1) for w in leading])
    order = importance.sum(0).argsort(descending=True, stable=True)
    return ChannelOrder(order, inner)


def _grown_dims(elastic: Elastic, spec: BlockSpec) -> dict[str, tuple[int, ...]]:
    """The dimensions of each tensor that a larger expand ratio makes larger."""
    choices = {**dict(spec.choices), "expand_ratio": 2 * _ratio(spec)}
    wider = elastic.shapes(replace(spec, choices=tuple(sorted(choices.items()))))
    return {
        name: dims
        for name, shape in elastic.shapes(spec).items()
        if (dims := tuple(d for d, size in enumerate(shape) if size != wider[name][d]))
    }


def _ratio(spec: BlockSpec) -> float:
    ratio: float = spec.get("expand_ratio", 1)
    return ratio
