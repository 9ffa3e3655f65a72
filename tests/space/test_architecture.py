"""Architectures and block specs are frozen, hashable and canonical."""

import pytest

from nassearch.errors import ArchitectureError, TableError
from nassearch.space import Architecture, Block, BlockSpec, SearchSpace, Stage
from nassearch.space.architecture import canonical_choices, make_divisible


def test_neutral_and_order_do_not_distinguish_blocks() -> None:
    first = canonical_choices({"attention": "none", "expand_ratio": 4.0, "kernel_size": 3})
    second = canonical_choices({"kernel_size": 3, "expand_ratio": 4})
    assert first == second == (("kernel_size", 3), ("expand_ratio", 4))
    assert hash(Block("mbconv", first)) == hash(Block("mbconv", second))


def test_equal_architectures_have_one_id() -> None:
    blocks = (Block("conv", (("kernel_size", 3),)),)
    first = Architecture(32, (Stage(16, blocks),))
    assert first.id == Architecture.from_dict(first.to_dict()).id
    assert first.id != Architecture(64, first.stages).id
    assert len({first, Architecture.from_dict(first.to_dict())}) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"resolution": 8}, "KeyError: 'stages'"),
        ([], "is not an architecture"),
        (
            {"resolution": 8, "stages": [{"width": 8, "blocks": [{"op": "conv", "kernel": 3}]}]},
            "unknown block key 'kernel'",
        ),
        ({"resolution": 8, "stages": [{"width": "wide", "blocks": []}]}, "ValueError"),
    ],
)
def test_malformed_architecture_is_one_line(value: object, message: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        Architecture.from_dict(value, where="arch.yaml")
    assert str(caught.value).startswith("arch.yaml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_key_is_readable_and_reads_back() -> None:
    choices = canonical_choices(
        {"kernel_size": 5, "expand_ratio": 4, "attention": "se", "activation": "relu"}
    )
    spec = BlockSpec("mbconv", 24, 40, 56, 2, choices)
    assert spec.key == "mbconv-i24-o40-k5-e4-s2-se-relu-r56"
    assert BlockSpec.from_key(spec.key) == spec


def test_key_with_a_fractional_ratio_reads_back() -> None:
    spec = BlockSpec("bottleneck", 64, 256, 56, 1, canonical_choices({"expand_ratio": 0.35}))
    assert BlockSpec.from_key(spec.key) == spec


@pytest.mark.parametrize("key", ["", "mbconv", "mbconv-i24-o40", "conv-i3-o8-s1-q7-r8"])
def test_what_is_not_a_key_is_refused(key: str) -> None:
    with pytest.raises(TableError, match="is not the key of a block"):
        BlockSpec.from_key(key)


@pytest.mark.parametrize(("value", "expected"), [(1, 8), (11, 16), (12, 16), (19, 24), (64, 64)])
def test_make_divisible_never_loses_a_tenth(value: int, expected: int) -> None:
    assert make_divisible(value) == expected
    assert make_divisible(value) >= 0.9 * value


def test_architecture_outside_its_space_names_the_place() -> None:
    space = SearchSpace.load("digits_tiny")
    value = space.smallest.to_dict()
    value["stages"][1]["blocks"][0]["kernel_size"] = 9
    with pytest.raises(ArchitectureError, match=r"stages\[1\]\.blocks\[0\]\.kernel_size is 9"):
        space.check(Architecture.from_dict(value))
    value["stages"] = value["stages"][:1]
    with pytest.raises(ArchitectureError, match="1 stages where the space digits_tiny has 3"):
        space.check(Architecture.from_dict(value))
