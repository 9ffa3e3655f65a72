"""An extracted network is the supernet's subnet: same outputs, same slices, nobody else's."""

import copy
from itertools import islice

import torch

from nassearch.networks import Supernet
from nassearch.ops import Elastic, static_op
from nassearch.space import Architecture, BlockSpec, SearchSpace

TOLERANCE = 1e-5


def _images(space: SearchSpace, architecture: Architecture, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    pixels = architecture.resolution
    return torch.randn(count, space.in_channels, pixels, pixels, generator=generator)


def _parted(op: Elastic, name: str, tensor: torch.Tensor) -> bool:
    """Whether an axis of several segments is cut, in each of them: that takes a copy."""
    segments = op.segments.get(name, ())
    full = op.state_dict()[name].shape
    return any(
        len(parts) > 1 and size < limit
        for parts, size, limit in zip(segments, tensor.shape, full, strict=False)
    )


def _used(
    op: Elastic, spec: BlockSpec, name: str, tensor: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Where in the first two axes of the shared tensor a block's tensor lies."""
    with torch.device("meta"):
        own = static_op(spec.op).training_form()(spec).segments().get(name, ())
    places = []
    for dim, size in enumerate(tensor.shape[:2]):
        parts = own[dim] if dim < len(own) else (size,)
        limits = op.segments[name][dim] if dim < len(own) else (size,)
        starts = [sum(limits[:number]) for number in range(len(limits))]
        places.append(
            torch.cat([torch.arange(a, a + n) for a, n in zip(starts, parts, strict=True)])
        )
    return tuple(torch.meshgrid(*places, indexing="ij")) if len(places) > 1 else tuple(places)


def test_extracted_network_equals_supernet(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for architecture in architectures:
        images = _images(supernet.space, architecture, 1)
        with torch.no_grad():
            expected = supernet(images, architecture)
            actual = supernet.extract(architecture)(images)
        assert expected.shape == (1, supernet.space.num_classes)
        assert torch.isfinite(expected).all()
        torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_training_mode_agrees_and_updates_the_same_statistics(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    # in double, because norms over the few values of a small image magnify float32's rounding
    supernet = copy.deepcopy(supernet).train().double()
    for architecture in architectures[:12]:
        images = _images(supernet.space, architecture, 4).double()
        extracted = supernet.extract(architecture).double()
        with torch.no_grad():
            actual, expected = extracted(images), supernet(images, architecture)
        torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=TOLERANCE)
        again = supernet.extract(architecture).double().state_dict()
        for name, tensor in extracted.state_dict().items():
            torch.testing.assert_close(again[name], tensor, atol=TOLERANCE, rtol=TOLERANCE)


def test_extracted_network_shares_nothing(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    architecture = architectures[0]
    images = _images(supernet.space, architecture, 1)
    extracted = supernet.extract(architecture)
    with torch.no_grad():
        before = supernet(images, architecture)
        for tensor in extracted.state_dict().values():
            tensor.zero_()
        assert torch.equal(supernet(images, architecture), before)


def test_weights_are_views_unless_a_kernel_is_transformed(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    for architecture in architectures[:12]:
        for op, spec in supernet.walk(architecture):
            shared = op.state_dict()
            for name, tensor in op.weights(spec).items():
                is_view = tensor.data_ptr() == shared[name].data_ptr()
                whole_kernel = tensor.shape[2:] == shared[name].shape[2:]
                assert is_view == (whole_kernel and not _parted(op, name, tensor)), (spec.key, name)


def test_gradients_stay_inside_the_slice(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    """A subnet learns within the leading channels it uses; the rest stays another subnet's."""
    supernet = copy.deepcopy(supernet)
    used = 0
    for architecture in islice(architectures, 3):
        supernet.zero_grad(set_to_none=False)
        images = _images(supernet.space, architecture, 2)
        supernet(images, architecture).square().sum().backward()
        for op, spec in supernet.walk(architecture):
            parameters = dict(op.named_parameters())
            for name, tensor in op.weights(spec).items():
                full = parameters.get(name)
                if full is not None and full.grad is not None:
                    used += int(full.grad.count_nonzero())
                    outside = torch.ones_like(full, dtype=torch.bool)
                    outside[_used(op, spec, name, tensor)] = False
                    assert not full.grad[outside].any(), (spec.key, name)
    assert used > 0


def test_two_calls_cannot_disturb_one_another(
    supernet: Supernet, architectures: list[Architecture]
) -> None:
    images = _images(supernet.space, architectures[1], 1)
    with torch.no_grad():
        alone = supernet(images, architectures[1])
        supernet(images, architectures[2])
        assert torch.equal(supernet(images, architectures[1]), alone)
