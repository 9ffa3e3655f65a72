"""The op of a block is a choice like any other, from the YAML to the extracted network."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from nassearch.networks import Supernet
from nassearch.networks.cost import block_cost
from nassearch.ops import OPS, StaticOp
from nassearch.ops.layer import ConvNorm
from nassearch.space import BlockSpec, SearchSpace, block_specs, lower


class Toy(StaticOp):
    """What a user's own op looks like: dimensions, layers, forward."""

    dimensions: ClassVar[Mapping[str, bool]] = {"kernel_size": True}

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.body = ConvNorm(
            spec.in_channels,
            spec.out_channels,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def space_of(*ops: dict[str, Any]) -> SearchSpace:
    stage = {"op": list(ops), "width": [8, 16], "depth": [1, 2], "stride": 2}
    return SearchSpace.from_dict(
        {"name": "choice", "resolution": 16, "num_classes": 4, "stages": [stage, stage]}
    )


CONV = {"op": "conv", "kernel_size": [3, 5], "activation": "relu"}
SKIP = {"op": "skip"}
MBCONV = {"op": "mbconv", "kernel_size": 3, "expand_ratio": [2, 4], "activation": "relu"}


def test_each_alternative_has_weights_of_its_own(generator: torch.Generator) -> None:
    space = space_of(CONV, MBCONV)
    supernet = Supernet(space)
    genes = [0] * len(space.genes)
    conv = space.decode(genes)
    for index, gene in enumerate(space.genes):
        genes[index] = int(gene.name.endswith(".op"))
    mbconv = space.decode(genes)
    assert {block.op for stage in conv.stages for block in stage.blocks} == {"conv"}
    assert {block.op for stage in mbconv.stages for block in stage.blocks} == {"mbconv"}
    images = torch.randn(2, 3, 16, 16, generator=generator)
    supernet(images, conv).sum().backward()
    touched = {name for name, p in supernet.named_parameters() if p.grad is not None}
    assert any(".conv." in name for name in touched)
    assert not any(".mbconv." in name for name in touched)


def test_a_block_may_be_left_out(generator: torch.Generator) -> None:
    space = space_of(SKIP, CONV)
    supernet = Supernet(space).eval()
    specs = lower(space, space.smallest)
    assert [spec.op for spec in specs] == ["skip", "skip", "head"]
    assert block_cost(specs[0]).macs == block_cost(specs[0]).params == 0
    images = torch.randn(2, 3, 16, 16, generator=generator)
    subnet = supernet.extract(space.smallest)
    assert torch.equal(subnet(images), supernet(images, space.smallest))


@pytest.mark.parametrize("channels", [4, 8, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_skip_has_the_shape_its_spec_says(channels: int, stride: int) -> None:
    from nassearch.ops import build_op

    spec = BlockSpec("skip", 8, channels, 9, stride, ())
    images = torch.arange(8.0).reshape(1, 8, 1, 1).expand(1, 8, 9, 9)
    out = build_op(spec)(images)
    assert out.shape == (1, channels, spec.out_resolution, spec.out_resolution)
    kept = min(8, channels)
    assert torch.equal(out[0, :kept, 0, 0], torch.arange(float(kept)))
    assert not out[0, kept:].any()


def test_genes_tables_and_extraction_know_every_alternative(
    rng: np.random.Generator, generator: torch.Generator
) -> None:
    space = space_of(SKIP, CONV, MBCONV)
    supernet = Supernet(space).eval()
    assert {spec.op for spec in block_specs(space)} == {"skip", "conv", "mbconv", "head"}
    images = torch.randn(1, 3, 16, 16, generator=generator)
    for architecture in space.sample_many(rng, 20):
        assert space.decode(space.encode(architecture)) == architecture
        torch.testing.assert_close(
            supernet.extract(architecture)(images), supernet(images, architecture)
        )


@pytest.mark.parametrize("by_name", [True, False])
def test_an_op_of_ones_own_takes_one_line(
    by_name: bool, monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """A line in the table, or none at all: the YAML names the class."""
    name = "toy" if by_name else f"{__name__}:Toy"
    if by_name:
        monkeypatch.setitem(OPS, "toy", f"{__name__}:Toy")
    space = space_of({"op": name, "kernel_size": [3, 5]}, SKIP)
    supernet = Supernet(space).eval()
    images = torch.randn(1, 3, 16, 16, generator=generator)
    subnet = supernet.extract(space.smallest)
    torch.testing.assert_close(subnet(images), supernet(images, space.smallest))
    assert {BlockSpec.from_key(spec.key) for spec in subnet.specs} == set(subnet.specs)
