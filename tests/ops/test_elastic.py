"""Sharing: which tensors an elastic op holds, and what a smaller block gets of them."""

import torch

from nassearch.ops import Elastic, static_op
from nassearch.space import BlockSpec
from nassearch.space.architecture import canonical_choices


def spec_of(
    op: str, in_channels: int, out_channels: int, *, stride: int = 1, **choices: int | float | str
) -> BlockSpec:
    return BlockSpec(op, in_channels, out_channels, 8, stride, canonical_choices(choices))


def test_a_tensor_that_only_some_blocks_have_is_held() -> None:
    """The widest block keeps its shape and needs no projection; a narrower one does."""
    wide = spec_of("basic", 24, 24, kernel_size=3)
    narrow = spec_of("basic", 8, 24, kernel_size=3)
    elastic = Elastic(static_op("basic"), [narrow, wide])
    assert "shortcut.project.conv.weight" in elastic.weights(narrow)
    assert "shortcut.project.conv.weight" not in elastic.weights(wide)


def test_a_tensor_is_as_large_as_any_block_needs_in_each_dimension() -> None:
    specs = [spec_of("conv", 8, 24, kernel_size=3), spec_of("conv", 24, 8, kernel_size=5)]
    elastic = Elastic(static_op("conv"), specs)
    assert elastic.state_dict()["body.conv.weight"].shape == (24, 24, 5, 5)
    assert torch.equal(elastic.state_dict()["body.norm.weight"], torch.ones(24))
    for spec in specs:
        assert elastic(torch.ones(1, spec.in_channels, 8, 8), spec).shape[1] == spec.out_channels


def test_a_smaller_kernel_starts_as_the_centre_of_a_larger_one() -> None:
    specs = [spec_of("conv", 4, 8, kernel_size=size) for size in (3, 5, 7)]
    elastic = Elastic(static_op("conv"), specs)
    shared = elastic.state_dict()["body.conv.weight"]
    for spec, margin in zip(specs, (2, 1, 0), strict=True):
        centre = shared[:, :, margin : 7 - margin, margin : 7 - margin]
        torch.testing.assert_close(elastic.weights(spec)["body.conv.weight"], centre)
    transforms = [name for name, _ in elastic.named_parameters() if "kernel_" in name]
    assert transforms == ["body.conv.kernel_7to5", "body.conv.kernel_5to3"]


def test_an_op_without_weights_is_elastic_too() -> None:
    spec = spec_of("skip", 8, 16, stride=2)
    elastic = Elastic(static_op("skip"), [spec])
    assert not list(elastic.parameters())
    images = torch.ones(1, 8, 8, 8)
    assert torch.equal(elastic(images, spec), elastic.extract(spec)(images))


def test_a_block_that_does_not_expand_keeps_any_width() -> None:
    """Twelve channels at ratio 1: rounding to a multiple of 8 is for what is expanded."""
    for width in (7, 10, 12, 16):
        specs = [spec_of("mbconv", width, width, kernel_size=3, expand_ratio=r) for r in (1, 4)]
        elastic = Elastic(static_op("mbconv"), specs).eval()
        images = torch.randn(2, width, 8, 8, generator=torch.Generator().manual_seed(0))
        for spec in specs:
            assert torch.equal(elastic.extract(spec)(images), elastic(images, spec))
        plain = elastic.extract(specs[0])
        assert plain.get_parameter("depthwise.conv.weight").shape == (width, 1, 3, 3)
    assert specs[0].key == "mbconv-i16-o16-k3-e1-s1-r8"
