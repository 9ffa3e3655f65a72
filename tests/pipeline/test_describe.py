"""`describe` of a space and of a published network says what their rooms say."""

import re

import pytest

from nassearch import config
from nassearch.networks.cost import network_cost
from nassearch.pipeline.listing import describe, list_plugins
from nassearch.space import SearchSpace, block_specs, lower


def test_a_space_is_described_stage_by_stage() -> None:
    space = SearchSpace.load("digits_tiny")
    facts = describe("digits_tiny")
    assert facts["networks"] == len(list(space.enumerate()))
    assert facts["latency_keys"] == len(block_specs(space))
    assert [row["stage"] for row in facts["stages"]] == ["stem", "0", "1", "2", "head"]
    assert [row["resolution_in"] for row in facts["stages"]] == [[8], [8], [8], [4], [2]]
    assert facts["stages"][2]["dimensions"]["kernel_size"] == [3, 5]
    for label, architecture in (("smallest", space.smallest), ("largest", space.largest)):
        cost = network_cost(lower(space, architecture))
        assert facts["costs"][label]["macs"] == cost.macs
        assert facts["costs"][label]["params"] == cost.params
        assert facts["costs"][label]["peak_activation_bytes"] > 0


def test_a_space_says_how_its_networks_may_be_run() -> None:
    assert describe("digits_tiny")["patches"] is None
    assert describe("mcu")["patches"] == {"grid": [1, 2, 3], "stages": [3]}


def test_each_op_a_block_may_choose_has_a_row() -> None:
    rows = [row for row in describe("mixer_choice")["stages"] if row["stage"] == "1"]
    assert [row["op"] for row in rows] == ["skip", "convnext", "inception_mixer", "lka"]


def test_a_latency_nobody_measured_is_called_estimated() -> None:
    rows = {row["setting"]: row for row in describe("mobilenet_v3:large")["latency"]}
    row = rows["a100/tensorrt-fp16-b1"]
    assert row["latency_ms"] > 0
    assert row["provenance"].startswith("estimated")


def test_a_space_names_the_published_networks_it_holds() -> None:
    assert describe("resnet50")["references"] == ["resnet:50"]


@pytest.mark.slow
@pytest.mark.parametrize("name", config.list_files("search_spaces"))
def test_the_documented_sizes_are_the_spaces_own(name: str) -> None:
    text = (config.ROOT.parent / "docs" / "search_spaces.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| ([0-9.e]+) \| ([0-9.]+)-([0-9.]+) M \|", text, re.M)
    space = SearchSpace.load(name)
    counts = [network_cost(lower(space, one)).macs for one in (space.smallest, space.largest)]
    for told, found in zip(row, (space.size(), *(count / 1e6 for count in counts)), strict=True):
        assert float(told) == pytest.approx(found, rel=0.05)


def test_listed_spaces_say_where_they_come_from() -> None:
    rows = list_plugins("spaces")
    assert [row["name"] for row in rows] == config.list_files("search_spaces")
    assert not [row["name"] for row in rows if not row["origin"]]
