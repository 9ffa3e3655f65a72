"""A large kernel is trained with dilated branches and leaves as one kernel, exactly."""

import pytest
import torch

from nassearch.networks.cost import block_cost
from nassearch.ops import Elastic, build_op
from nassearch.ops.large_kernel import BranchedLargeKernel, LargeKernel, branches_of
from nassearch.space import BlockSpec


def spec_of(kernel_size: int, *, channels: int = 16, resolution: int = 20) -> BlockSpec:
    choices = (("kernel_size", kernel_size), ("expand_ratio", 2), ("activation", "gelu"))
    return BlockSpec("large_kernel", channels, channels, resolution, 1, choices)


def unsettled(spec: BlockSpec, generator: torch.Generator) -> BranchedLargeKernel:
    branched = BranchedLargeKernel(spec)
    with torch.no_grad():
        for tensor in branched.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 0.6, generator=generator)
    return branched


@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9, 11, 13, 15, 17, 31])
@pytest.mark.parametrize("training", [False, True])
def test_merged_kernel_computes_what_the_branches_compute(
    kernel_size: int, training: bool, generator: torch.Generator
) -> None:
    branched = unsettled(spec_of(kernel_size), generator).train(training)
    reparameterize = branched.reparameterize()
    assert isinstance(reparameterize, LargeKernel)
    assert reparameterize.training == training
    images = torch.randn(2, 16, 20, 20, generator=generator)
    with torch.no_grad():
        expected, actual = branched(images), reparameterize(images)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel_size", [5, 7, 13, 31])
def test_every_branch_matters(kernel_size: int, generator: torch.Generator) -> None:
    branched = unsettled(spec_of(kernel_size), generator).eval()
    images = torch.randn(1, 16, 20, 20, generator=generator)
    with torch.no_grad():
        whole = branched(images)
        for name in branched.scales:
            kept = branched.scales[name].clone()
            branched.scales[name].zero_()
            assert not torch.allclose(branched(images), whole)
            branched.scales[name].copy_(kept)


def test_branches_lie_inside_their_kernel() -> None:
    for size in range(5, 33, 2):
        assert branches_of(size)
        assert all((k - 1) * dilation + 1 <= size for dilation, k in branches_of(size).items())
    assert branches_of(31) == branches_of(19)
    assert branches_of(3) == {}


def test_kernels_share_the_branches_of_a_dilation() -> None:
    elastic = Elastic(LargeKernel, [spec_of(13), spec_of(7)])
    small, large = elastic.weights(spec_of(7)), elastic.weights(spec_of(13))
    for dilation, size in branches_of(7).items():
        name = f"branches.d{dilation}.weight"
        edge = (large[name].shape[-1] - size) // 2
        centre = large[name][:, :, edge : edge + size, edge : edge + size]
        torch.testing.assert_close(small[name], centre)  # the learned matrix is the identity


def test_what_is_counted_and_extracted_has_no_branches() -> None:
    spec = spec_of(13)
    elastic = Elastic(LargeKernel, [spec, spec_of(7)])
    assert any("branches" in name for name, _ in elastic.named_parameters())
    extracted = elastic.extract(spec)
    assert list(extracted.state_dict()) == list(build_op(spec).state_dict())
    assert block_cost(spec).params == sum(parameter.numel() for parameter in extracted.parameters())
