"""LS convolution: each pixel has kernels of its own, and their arithmetic is counted."""

import pytest
import torch
import torch.nn.functional as F

from nassearch.errors import SpaceError
from nassearch.networks import block_cost
from nassearch.ops import check_space
from nassearch.ops.ls_conv import aggregate
from nassearch.space import BlockSpec, SearchSpace


def test_every_pixel_is_convolved_with_its_own_kernel(generator: torch.Generator) -> None:
    """Against unfolded patches; channels 0-7 share the first nine weights, 8-15 the next."""
    images = torch.randn(2, 16, 5, 6, generator=generator)
    weights = torch.randn(2, 18, 5, 6, generator=generator)
    patches = F.unfold(images, 3, padding=1).view(2, 2, 8, 9, 5, 6)
    expected = (patches * weights.view(2, 2, 1, 9, 5, 6)).sum(3).view(2, 16, 5, 6)
    torch.testing.assert_close(aggregate(images, weights), expected)


def test_the_aggregation_is_counted() -> None:
    spec = BlockSpec("ls_conv", 16, 16, 10, 1, (("kernel_size", 7), ("expand_ratio", 2)))
    perceive = 16 * 8 + 49 * 8 + 8 * 8 + 8 * 18
    by_hand = 10 * 10 * (perceive + 9 * 16 + 2 * 16 * 32)
    assert block_cost(spec).macs == by_hand
    (aggregation,) = [layer for layer, _ in block_cost(spec).layers if layer.kernel == 3]
    assert (aggregation.macs, aggregation.outputs) == (100 * 9 * 16, 100 * 16)


def test_a_width_that_kernels_cannot_be_shared_over_is_refused() -> None:
    stage = {"op": "ls_conv", "kernel_size": 7, "expand_ratio": 2, "width": [16, 20]}
    definition = {"name": "odd", "resolution": 8, "num_classes": 2, "stages": [stage]}
    with pytest.raises(SpaceError, match="width: 8 channels share a kernel"):
        check_space(SearchSpace.from_dict(definition))
