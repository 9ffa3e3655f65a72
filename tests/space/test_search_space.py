"""Choosing within a space: genes, sampling, mutation, crossover, exact size."""

import itertools
from typing import Any

import numpy as np
import pytest

from nassearch.errors import ArchitectureError
from nassearch.space import SearchSpace, lower


def space_of(*stages: dict[str, Any], **more: Any) -> SearchSpace:
    definition = {"name": "test", "resolution": [16, 24], "stages": list(stages), **more}
    return SearchSpace.from_dict(definition)


CONV = {"op": "conv", "width": [8, 16], "depth": [1, 2, 3], "kernel_size": [3, 5]}
CHOICE = {
    "op": [{"op": "conv", "kernel_size": [3, 5, 7]}, {"op": "mbconv", "expand_ratio": [2, 4]}],
    "width": 16,
    "depth": [1, 2],
    "kernel_size": 3,
}


def test_size_is_the_number_of_enumerated_architectures() -> None:
    space = space_of(CONV, CHOICE)
    everything = list(space.enumerate())
    assert len(everything) == len(set(everything)) == space.size()
    assert space.size() == 2 * (2 * (2 + 4 + 8)) * (5 + 25)


def test_all_gene_vectors_together_decode_into_the_enumeration() -> None:
    space = space_of(CONV, CHOICE)
    vectors = itertools.product(*(range(len(gene.choices)) for gene in space.genes))
    assert {space.decode(genes) for genes in vectors} == set(space.enumerate())


def test_mobilenet_v3_is_as_large_as_its_paper_says() -> None:
    """Cai et al. (2020): ((3x3)^2 + (3x3)^3 + (3x3)^4)^5, about 2e19, times the resolutions."""
    assert SearchSpace.load("mobilenet_v3").size() == 4 * (9**2 + 9**3 + 9**4) ** 5


def test_genes_beyond_the_depth_say_nothing() -> None:
    space = space_of(CONV)
    names = [gene.name for gene in space.genes]
    genes = [0] * len(names)
    silent = list(genes)
    silent[names.index("stages[0].blocks[2].kernel_size")] = 1
    assert space.decode(silent) == space.decode(genes)
    assert space.canonical(np.array([silent], dtype=np.uint8)).tolist() == [genes]


def test_genes_of_an_op_not_chosen_say_nothing() -> None:
    space = space_of(CHOICE)
    names = [gene.name for gene in space.genes]
    genes = [0] * len(names)
    silent = list(genes)
    silent[names.index("stages[0].blocks[0].mbconv.expand_ratio")] = 1
    assert space.decode(silent) == space.decode(genes)
    assert space.canonical(np.array([silent], dtype=np.uint8)).tolist() == [genes]


def test_canonical_genes_are_what_encode_gives(rng: np.random.Generator) -> None:
    space = space_of(CONV, CHOICE)
    for row in space.sample_genes(rng, 200).tolist():
        assert space.encode(space.decode(row)) == tuple(row)


@pytest.mark.parametrize("genes", [[0], [0] * 99])
def test_a_gene_vector_of_another_length_is_refused(genes: list[int]) -> None:
    with pytest.raises(ArchitectureError, match="genes where the space"):
        space_of(CONV).decode(genes)


def test_a_gene_out_of_range_is_refused_by_name() -> None:
    space = space_of(CONV)
    with pytest.raises(ArchitectureError, match="gene resolution is 2; 0 to 1"):
        space.decode([2] + [0] * (len(space.genes) - 1))


def test_sampling_is_uniform_over_the_choices_of_each_dimension() -> None:
    space = space_of(CONV, CHOICE)
    rng = np.random.default_rng(0)
    count = 3000
    sampled = [space.sample(rng) for _ in range(count)]
    for observed, choices in [
        ([a.resolution for a in sampled], 2),
        ([a.stages[0].width for a in sampled], 2),
        ([len(a.stages[0].blocks) for a in sampled], 3),
        ([a.stages[0].blocks[0].choices for a in sampled], 2),
        ([a.stages[1].blocks[0].op for a in sampled], 2),
    ]:
        counts = [observed.count(value) for value in set(observed)]
        assert len(counts) == choices
        # five standard deviations of a binomial count
        assert max(abs(n - count / choices) for n in counts) < 5 * (count * 0.25) ** 0.5


def test_many_are_decoded_as_one_by_one(rng: np.random.Generator) -> None:
    for space in (space_of(CONV, CHOICE), SearchSpace.load("mobilenet_v3")):
        genes = space.sample_genes(rng, 300)
        assert space.decode_many(genes) == [space.decode(row) for row in genes.tolist()]
        assert space.decode_many(genes[:0]) == []
    seeds = [np.random.default_rng(5) for _ in range(2)]
    assert space.sample_many(seeds[0], 7) == space.decode_many(space.sample_genes(seeds[1], 7))


def test_many_genes_of_another_shape_or_range_are_refused() -> None:
    space = space_of(CONV)
    genes = np.zeros((3, len(space.genes)), dtype=np.uint8)
    with pytest.raises(ArchitectureError, match="genes of shape"):
        space.decode_many(genes[:, :-1])
    genes[1, 0] = 2
    with pytest.raises(ArchitectureError, match="gene resolution is 2; 0 to 1"):
        space.decode_many(genes)


def test_a_space_of_more_genes_than_an_integer_holds_decodes(rng: np.random.Generator) -> None:
    stage = {"op": "conv", "width": [8, 16], "depth": [1, 60], "kernel_size": [3, 5, 7]}
    space = space_of(stage)
    assert space.size() > 2**64
    genes = space.sample_genes(rng, 20)
    assert space.decode_many(genes) == [space.decode(row) for row in genes.tolist()]


def test_the_same_seed_samples_the_same() -> None:
    space = space_of(CONV, CHOICE)
    draws = [[space.sample(np.random.default_rng(5)) for _ in range(3)] for _ in range(2)]
    assert draws[0] == draws[1]


def test_mutation_and_crossover_stay_in_the_space(rng: np.random.Generator) -> None:
    space = space_of(CONV, CHOICE)
    everything = set(space.enumerate())
    parents = [space.sample(rng) for _ in range(20)]
    changed = 0
    for first, second in zip(parents, reversed(parents), strict=True):
        mutant = space.mutate(first, rng=rng, rate=0.3)
        child = space.crossover(first, second, rng=rng)
        assert {mutant, child} <= everything
        changed += mutant != first
        assert child.resolution in (first.resolution, second.resolution)
    assert changed > 0
    assert space.crossover(parents[0], parents[0], rng=rng) == parents[0]


def test_smallest_and_largest_are_the_ends_of_every_dimension() -> None:
    space = space_of({**CONV, "kernel_size": [5, 3], "width": [16, 8]})
    assert (space.smallest.resolution, space.largest.resolution) == (16, 24)
    assert (space.smallest.stages[0].width, space.largest.stages[0].width) == (8, 16)
    assert (len(space.smallest.stages[0].blocks), len(space.largest.stages[0].blocks)) == (1, 3)
    assert space.largest.stages[0].blocks[0].choices == (("kernel_size", 5),)


def test_a_space_without_choices_holds_one_architecture(rng: np.random.Generator) -> None:
    space = space_of({"op": "conv", "width": 8, "kernel_size": 3}, resolution=16)
    assert space.size() == 1
    assert (
        space.sample(rng)
        == space.smallest
        == space.largest
        == space.mutate(space.smallest, rng=rng)
    )


def test_fingerprint_knows_content_and_not_names() -> None:
    space = space_of(CONV)
    renamed = SearchSpace.from_dict({**space.to_dict(), "name": "other", "description": "new"})
    wider = space_of({**CONV, "width": [8, 24]})
    spelled = space_of({**CONV, "kernel_size": [5, 3], "attention": "none"})
    assert space.fingerprint == renamed.fingerprint == spelled.fingerprint
    assert space == renamed
    assert space.fingerprint != wider.fingerprint
    assert space.fingerprint != space.for_data(in_channels=1, num_classes=10).fingerprint


def test_an_op_may_do_without_what_its_stage_says() -> None:
    plain = {"op": "mbconv", "attention": "none"}
    stage = {"op": ["conv", plain], "width": 8, "kernel_size": 3, "attention": "se"}
    conv, mbconv = space_of(stage).definition.stages[0].alternatives()
    assert conv == ("conv", {"kernel_size": (3,), "attention": ("se",)})
    assert mbconv == ("mbconv", {"kernel_size": (3,)})
    spelled_out = {
        "op": [{"op": "conv", "kernel_size": 3, "attention": "se"},
               {"op": "mbconv", "kernel_size": 3}],
        "width": 8,
    }  # fmt: skip
    assert space_of(stage).fingerprint == space_of(spelled_out).fingerprint


def test_for_data_changes_the_ends_of_the_network() -> None:
    space = space_of(CONV).for_data(in_channels=1, num_classes=7)
    specs = lower(space, space.smallest)
    assert specs[0].in_channels == 1
    assert specs[-1].out_channels == 7


def test_strides_round_up() -> None:
    space = space_of(
        {**CONV, "stride": 2, "depth": 1}, {**CONV, "stride": 2, "depth": 1}, resolution=9
    )
    assert [spec.resolution for spec in lower(space, space.smallest)] == [9, 5, 3]
