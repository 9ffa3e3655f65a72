"""Patch-based schedules: tiles are as large as they must be, and bad schedules are refused."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from nassearch.errors import ArchitectureError, SpaceError
from nassearch.ops import OPS, build_op, check_space, static_op
from nassearch.space import Architecture, BlockSpec, SearchSpace, block_specs, lower, slots
from nassearch.space.patching import cuts, in_patches, input_size

SPACE: dict[str, Any] = {
    "name": "patched",
    "resolution": [24, 36],
    "num_classes": 4,
    "patches": {"grid": [1, 2, 3], "stages": [1, 2]},
    "stem": {"width": 8, "stride": 2},
    "stages": [
        {"op": "mbconv", "width": 8, "depth": [1, 2], "kernel_size": [3, 5], "expand_ratio": 2},
        {"op": "conv", "width": [8, 16], "stride": 2, "kernel_size": [1, 3, 7]},
        {"op": "lka", "width": 16, "kernel_size": 3, "expand_ratio": 2},
    ],
}


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.from_dict(SPACE)


def chain(*blocks: tuple[int, int], resolution: int) -> list[BlockSpec]:
    """Convolutions of (kernel size, stride), one after the other."""
    specs = []
    for kernel_size, stride in blocks:
        choices = (("kernel_size", kernel_size),)
        specs.append(BlockSpec("conv", 1, 1, resolution, stride, choices))
        resolution = specs[-1].out_resolution
    return specs


CHAINS = [
    chain((3, 2), (3, 1), (7, 2), (5, 1), resolution=64),
    chain((5, 1), (3, 1), resolution=13),
    chain((3, 2), (7, 2), resolution=37),
    chain((1, 2), (3, 3), resolution=50),
    chain((9, 1), (9, 1), (9, 1), resolution=12),
]


def seen_by(spec: BlockSpec, first: int, last: int) -> tuple[int, int]:
    """By brute force: the first and the last input pixel that outputs first to last depend on."""
    seen = set()
    for out, tap in itertools.product(range(first, last + 1), range(spec.get("kernel_size"))):
        pixel = out * spec.stride + tap - spec.get("kernel_size") // 2
        if 0 <= pixel < spec.resolution:
            seen.add(pixel)
    return min(seen), max(seen)


@pytest.mark.parametrize("specs", CHAINS)
@pytest.mark.parametrize("grid", [2, 3])
def test_each_tile_holds_what_its_outputs_depend_on(specs: list[BlockSpec], grid: int) -> None:
    tiled = in_patches(specs, grid)
    covered = []
    for cut in cuts(tiled):
        begin = cut.first
        for number, (spec, (skipped, upto)) in enumerate(zip(tiled, cut.kept, strict=True)):
            assert begin % spec.stride == 0
            assert 0 <= begin <= spec.resolution - spec.tile
            outputs = range(begin // spec.stride + skipped, begin // spec.stride + upto)
            first, last = seen_by(spec, outputs[0], outputs[-1])
            # its own padding is that of the image, or spoils nothing that is kept
            assert begin <= first and last < begin + spec.tile
            if number + 1 < len(tiled):
                assert len(outputs) == tiled[number + 1].tile
            begin = outputs[0]
        covered += list(outputs)
    assert covered == list(range(specs[-1].out_resolution))


def test_no_tile_is_larger_than_the_worst_placed_one_needs() -> None:
    """Against brute force over every place of the outputs, up to what keeps it on a stride."""
    for kernel_size, stride, size in itertools.product((1, 3, 5, 7), (1, 2, 3), (1, 2, 5)):
        (spec,) = chain((kernel_size, stride), resolution=60)
        needed = 0
        for first in range(spec.out_resolution - size + 1):
            low, high = seen_by(spec, first, first + size - 1)
            needed = max(needed, high + 1 - low // stride * stride)
        assert needed <= input_size(size, kernel_size, stride, 60) < needed + stride


@pytest.mark.parametrize("op", [name for name in OPS if static_op(name).is_local])
@pytest.mark.parametrize("stride", [1, 2])
def test_local_ops_see_no_further_than_their_kernel(op: str, stride: int) -> None:
    """By gradients: what one output pixel depends on is what the halo assumes."""
    choices = (("kernel_size", 5), ("expand_ratio", 2), ("group_size", 4))
    taken = {"mbconv": choices[:2], "fused_mbconv": choices[:2], "grouped_conv": choices[::2]}
    spec = BlockSpec(op, 8, 8, 24, stride, taken.get(op, choices[:1]))
    image = torch.randn(1, 8, 24, 24, generator=torch.Generator().manual_seed(0))
    out = build_op(spec).eval()(image.requires_grad_())
    middle = out.shape[-1] // 2
    out[0, :, middle, middle].sum().backward()
    assert image.grad is not None
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    assert (rows[0], rows[-1]) == seen_by(spec, middle, middle)


def test_genes_hold_the_schedule(space: SearchSpace, rng: np.random.Generator) -> None:
    everything = list(space.enumerate())
    assert len(set(everything)) == len(everything) == space.size()
    found = {space.decode(row) for row in space.sample_genes(rng, 20_000).tolist()}
    assert found <= set(everything)
    assert {each.patches for each in found} == set(space.layout.schedules)
    for architecture in everything[:: len(everything) // 200]:
        assert space.decode(space.encode(architecture)) == architecture
        assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert space.decode_many(space.sample_genes(np.random.default_rng(1), 50)) == [
        space.decode(row) for row in space.sample_genes(np.random.default_rng(1), 50).tolist()
    ]


def test_slots_hold_what_the_walk_gives(space: SearchSpace, rng: np.random.Generator) -> None:
    places = {slot.name: slot for slot in slots(space)}
    for architecture in space.sample_many(rng, 200):
        genes = space.encode(architecture)
        walked = iter(lower(space, architecture))
        for slot in places.values():
            at = tuple(genes[gene] for gene in slot.genes)
            spec = slot.specs[np.ravel_multi_index(at, slot.shape) if at else 0]
            if spec is not None:
                assert spec == next(walked)
        assert next(walked, None) is None
    specs = set(block_specs(space))
    assert {BlockSpec.from_key(spec.key) for spec in specs} == specs


def test_layer_by_layer_spaces_keep_their_names() -> None:
    """The schedule is no part of networks and keys that have none: old files stay valid."""
    space = SearchSpace.load("digits_tiny")
    assert "patches" not in space.smallest.to_dict()
    assert all(spec.key.endswith(f"-r{spec.resolution}") for spec in block_specs(space))


@pytest.mark.parametrize(
    ("patches", "told"),
    [
        ({"grid": [1, 2], "stages": 4}, "patches.stages 4 is more than the 3 stages"),
        ({"grid": 2, "stages": [2, 3]}, r"patches.stages 3 holds stages\[2\], whose op 'lka'"),
        ({"grid": 7, "stages": 1}, "patches.grid 7: the 12 pixels after 1 stages"),
        ({"grid": 2}, "the key 'patches.stages' is missing"),
        ({"grid": 0, "stages": 1}, r"patches.grid\[0\]: "),
        ({"grid": [2, 2], "stages": 1}, "patches.grid: holds a choice twice"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(patches: dict[str, Any], told: str) -> None:
    with pytest.raises(SpaceError, match=told):
        check_space(SearchSpace.from_dict({**SPACE, "patches": patches}))


def test_attention_needs_the_whole_image() -> None:
    stages = [{**SPACE["stages"][0], "attention": ["none", "se"]}, *SPACE["stages"][1:]]
    with pytest.raises(SpaceError, match=r"stages\[0\], whose attention of 'mbconv' needs"):
        check_space(SearchSpace.from_dict({**SPACE, "stages": stages}))


def test_a_schedule_outside_the_space_is_refused(space: SearchSpace) -> None:
    content = {**space.smallest.to_dict(), "patches": {"grid": 4, "stages": 1}}
    with pytest.raises(ArchitectureError, match=r"patches\.grid is 4, outside the space patched"):
        space.check(Architecture.from_dict(content))
    plain = SearchSpace.from_dict({**SPACE, "patches": None})
    with pytest.raises(ArchitectureError, match=r"patches\.grid is 2, outside"):
        plain.check(next(each for each in space.enumerate() if each.patches is not None))
