"""A policy is beside an architecture: in its genes, and no part of the space."""

from dataclasses import replace

import numpy as np
import pytest

from nassearch.errors import ArchitectureError
from nassearch.space import Architecture, SearchSpace, lower, slots

MIXED = ("int8", "fp32")


@pytest.fixture(params=["digits_tiny", "cifar_resnet"])
def plain(request: pytest.FixtureRequest) -> SearchSpace:
    return SearchSpace.load(request.param)


def test_supernets_and_tables_of_the_plain_space_serve_the_mixed_one(plain: SearchSpace) -> None:
    mixed = plain.mixed(MIXED)
    assert mixed.fingerprint == plain.fingerprint
    assert mixed != plain
    assert mixed.plain == plain
    assert mixed.for_data(in_channels=3, num_classes=7).precisions == MIXED


def test_a_policy_is_encoded_decoded_and_canonical(plain: SearchSpace) -> None:
    mixed = plain.mixed(MIXED)
    rng = np.random.default_rng(0)
    genes = mixed.sample_genes(rng, 200)
    many = mixed.decode_many(genes)
    for row, architecture in zip(genes, many, strict=True):
        assert mixed.decode(row.tolist()) == architecture
        assert mixed.encode(architecture) == tuple(row)
        assert architecture.precisions is not None
        assert len(architecture.precisions) == len(lower(mixed, architecture))
        assert plain.encode(architecture.plain) == tuple(row[: len(plain.genes)])
        assert lower(plain, architecture) == lower(plain, architecture.plain)
        assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert len({architecture.id for architecture in many}) == len(set(many))
    child = mixed.crossover(many[0], many[1], rng=rng)
    assert mixed.check(mixed.mutate(child, rng=rng)).precisions is not None


def test_beyond_the_depth_a_precision_says_nothing() -> None:
    mixed = SearchSpace.load("digits_tiny").mixed(MIXED)
    noisy = mixed.sample_genes(np.random.default_rng(1), 50)
    loud = noisy.copy()
    assert mixed.policies is not None
    columns = mixed.policies.columns
    absent = ~mixed.policies.present(noisy)
    loud[:, columns][absent] = 1
    assert absent.any()
    assert np.array_equal(mixed.canonical(loud), noisy)


def test_every_policy_is_counted_and_enumerated_once() -> None:
    tiny = SearchSpace.from_dict(
        {
            "name": "tiny",
            "resolution": 8,
            "num_classes": 10,
            "in_channels": 1,
            "stem": {"op": "conv", "width": 8, "kernel_size": 3, "stride": 1, "activation": "relu"},
            "stages": [
                {
                    "op": "conv",
                    "width": [8, 16],
                    "depth": [1, 2],
                    "stride": 1,
                    "kernel_size": 3,
                    "activation": "relu",
                }
            ],
            "head": {},
        }
    )
    mixed = tiny.mixed(MIXED)
    every = list(mixed.enumerate())
    assert len(every) == len(set(every)) == mixed.size() == 2 * 2**3 + 2 * 2**4
    assert {mixed.encode(item) for item in every} == {
        tuple(row) for row in mixed.canonical(mixed.sample_genes(np.random.default_rng(0), 4000))
    }


def test_smallest_is_of_the_lowest_precision_and_largest_of_the_highest(plain: SearchSpace) -> None:
    mixed = plain.mixed(MIXED)
    assert set(mixed.smallest.precisions or ()) == {"int8"}
    assert set(mixed.largest.precisions or ()) == {"fp32"}
    assert mixed.decode(mixed.encode(plain.largest)) == mixed.largest  # no policy: the highest


def test_slots_read_the_same_genes(plain: SearchSpace) -> None:
    assert slots(plain.mixed(MIXED)) == slots(plain)


def test_a_policy_for_another_architecture_is_refused(plain: SearchSpace) -> None:
    mixed = plain.mixed(MIXED)
    short = replace(plain.smallest, precisions=("fp32",) * 2)
    for space in (plain, mixed):
        with pytest.raises(ArchitectureError, match=r"precisions for 2 blocks"):
            space.check(short, where="a.yaml")
    with pytest.raises(
        ArchitectureError, match=r"fp16 is none of those that are mixed.*int8, fp32"
    ):
        mixed.encode(
            replace(plain.smallest, precisions=("fp16",) * len(lower(plain, plain.smallest)))
        )
    with pytest.raises(ArchitectureError, match="has a policy, the space"):
        plain.encode(mixed.smallest)
    with pytest.raises(ArchitectureError, match="precisions is no list of names"):
        Architecture.from_dict({**plain.smallest.to_dict(), "precisions": "int8"})
