"""Architectures, genes, blocks and keys translate into one another without loss."""

from itertools import pairwise

import numpy as np

from nassearch.space import Architecture, BlockSpec, SearchSpace, block_specs, lower, slots


def test_genes_round_trip(space: SearchSpace, architectures: list[Architecture]) -> None:
    for architecture in architectures:
        genes = space.encode(architecture)
        assert space.decode(genes) == architecture
        assert tuple(space.canonical(np.array([genes], dtype=np.uint8))[0]) == genes


def test_dictionary_round_trip(space: SearchSpace, architectures: list[Architecture]) -> None:
    for architecture in architectures:
        assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert SearchSpace.from_dict(space.to_dict()) == space


def test_every_block_of_an_architecture_is_a_block_of_the_space(
    space: SearchSpace, architectures: list[Architecture]
) -> None:
    known = set(block_specs(space))
    for architecture in architectures:
        assert known.issuperset(lower(space, architecture))


def test_slots_look_up_the_blocks_that_lowering_walks(
    space: SearchSpace, architectures: list[Architecture]
) -> None:
    for architecture in architectures:
        genes = space.encode(architecture)
        found = []
        for slot in slots(space):
            index = tuple(genes[gene] for gene in slot.genes)
            found.append(slot.specs[int(np.ravel_multi_index(index, slot.shape)) if index else 0])
        assert tuple(spec for spec in found if spec is not None) == lower(space, architecture)


def test_blocks_chain(space: SearchSpace, architectures: list[Architecture]) -> None:
    """Every block takes the channels and pixels that the one before it gives."""
    for architecture in architectures:
        specs = lower(space, architecture)
        assert specs[0].resolution == architecture.resolution
        assert specs[0].in_channels == space.in_channels
        for before, after in pairwise(specs):
            assert after.in_channels == before.out_channels
            assert after.resolution == before.out_resolution


def test_keys_are_unique_and_read_back(space: SearchSpace) -> None:
    specs = block_specs(space)
    assert len({spec.key for spec in specs}) == len(specs)
    for spec in specs:
        assert BlockSpec.from_key(spec.key) == spec
