"""Once-for-all's lists name a network of a space, in the lengths of its own code and of others."""

import numpy as np
import pytest

from nassearch.errors import ConfigError
from nassearch.space import Architecture, SearchSpace
from nassearch.space.once_for_all import decode_lists, parse_list


def lists_of(architecture: Architecture, *, places: int) -> dict[str, list[float]]:
    """The lists of an architecture, written down by hand: 7 and 6 where a block is left out."""
    kernel_sizes: list[float] = []
    expand_ratios: list[float] = []
    depths: list[float] = []
    for stage, most in zip(architecture.stages[1:], [4] * 5 + [1], strict=False):
        values = [dict(block.choices) for block in stage.blocks]
        missing = most - len(values)
        kernel_sizes += [value["kernel_size"] for value in values] + [7] * missing
        expand_ratios += [value["expand_ratio"] for value in values] + [6] * missing
        depths.append(len(values))
    assert len(kernel_sizes) == places
    return {"kernel_sizes": kernel_sizes, "expand_ratios": expand_ratios, "depths": depths}


@pytest.mark.parametrize(("name", "places"), [("mobilenet_v3", 20), ("proxyless", 21)])
def test_lists_name_the_network_whatever_stands_where_no_block_is(name: str, places: int) -> None:
    space, rng = SearchSpace.load(name), np.random.default_rng(0)
    for architecture in [space.smallest, space.largest, *space.sample_many(rng, 20)]:
        lists = lists_of(architecture, places=places)
        assert decode_lists(space, resolution=architecture.resolution, **lists) == architecture


def test_lists_without_a_last_static_depth_take_the_smallest_there() -> None:
    space = SearchSpace.load("proxyless")
    found = decode_lists(
        space, resolution=160, kernel_sizes=[5] * 20, expand_ratios=[4] * 20, depths=[2] * 5
    )
    assert found.stages[-1] == space.smallest.stages[-1]
    assert dict(found.stages[1].blocks[0].choices)["kernel_size"] == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kernel_sizes": [3] * 19}, "has 19 kernel sizes, a network of mobilenet_v3 has 20"),
        ({"expand_ratios": [3] * 21}, "has 21 expand ratios"),
        ({"depths": [2] * 4}, "has 4 depths, a network of mobilenet_v3 has 5"),
        ({"depths": [2, 2, 9, 2, 2]}, "outside the space"),
        ({"kernel_sizes": [4] * 20}, "kernel_size is 4"),
        ({"resolution": 150}, "resolution is 150"),
    ],
)
def test_lists_of_no_network_say_why(change: dict[str, object], says: str) -> None:
    lists = {
        "resolution": 160, "kernel_sizes": [3] * 20, "expand_ratios": [3] * 20, "depths": [2] * 5
    }  # fmt: skip
    with pytest.raises(ConfigError, match=says):
        decode_lists(SearchSpace.load("mobilenet_v3"), **{**lists, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["3-5-7", "[3, 5, 7]", "(3, 5, 7)", "3 5 7", " [3,5,7] "])
def test_lists_are_written_in_several_ways(text: str) -> None:
    assert parse_list(text) == [3, 5, 7]


def test_ratios_may_be_fractions() -> None:
    assert parse_list("[0.2, 0.35]") == [0.2, 0.35]
    with pytest.raises(ValueError, match="x"):
        parse_list("3-x")
