"""Networks named by cells and by numbers of ops are the space's, or say why they are none."""

import numpy as np
import pytest

from nassearch.errors import ArchitectureError, SpaceError
from nassearch.space import Architecture, SearchSpace
from nassearch.space.named_genes import decode_cells, decode_numbers, split_numbers

MIXED = {
    "name": "mixed",
    "resolution": [16, 32],
    "stages": [
        {
            "op": [
                {"op": "mbconv", "kernel_size": [3, 5], "expand_ratio": [1, 3]},
                {"op": "conv", "kernel_size": 3},
                {"op": "skip"},
            ],
            "width": 16,
            "depth": 2,
        },
        {"op": [{"op": "mbconv", "kernel_size": 3, "expand_ratio": 3}, "skip"], "width": 24},
    ],
    "op_numbers": {
        0: {"op": "mbconv", "kernel_size": 3, "expand_ratio": 3},
        1: {"op": "mbconv", "kernel_size": 5, "expand_ratio": 1},
        "dense": {"op": "conv"},
        8: {"op": "skip"},
    },
}


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.from_dict(MIXED)


def cells_of(space: SearchSpace, architecture: Architecture) -> dict[str, object]:
    genes = space.encode(architecture)
    return {gene.name: gene.choices[value] for gene, value in zip(space.genes, genes, strict=True)}


@pytest.mark.parametrize("name", ["digits_tiny", "mixer_choice", "mobilenet_v3"])
def test_a_cell_for_each_gene_names_the_network(name: str) -> None:
    space = SearchSpace.load(name)
    for architecture in space.sample_many(np.random.default_rng(0), 20):
        cells = cells_of(space, architecture)
        assert decode_cells(space, cells) == architecture
        texts = {
            key: f"{value}.0" if isinstance(value, int) else value for key, value in cells.items()
        }
        assert decode_cells(space, texts) == architecture, "pandas writes whole numbers so"


def test_cells_of_what_is_not_there_may_be_left_out() -> None:
    space = SearchSpace.load("digits_tiny")
    depth = next(gene for gene in space.genes if gene.name.endswith("depth"))
    cells = cells_of(space, space.decode([0] * len(space.genes)))
    stage = depth.name.removesuffix(".depth")
    beyond = [name for name in cells if name.startswith(f"{stage}.blocks[{depth.choices[-1] - 1}]")]
    assert beyond
    shown = {name: cell for name, cell in cells.items() if name not in beyond}
    assert decode_cells(space, {**shown, beyond[0]: float("nan")}) == space.smallest
    with pytest.raises(ArchitectureError, match=r"do not say .*\.depth"):
        decode_cells(space, {name: cell for name, cell in cells.items() if name != depth.name})


@pytest.mark.parametrize("text", ["0-dense-8", "[0, dense, 8]", "0 dense 8", "0|dense|8"])
def test_numbers_stand_for_ops_in_the_order_of_the_blocks(space: SearchSpace, text: str) -> None:
    found = decode_numbers(space, split_numbers(text), {"resolution": "32"})
    blocks = [block for stage in found.stages for block in stage.blocks]
    assert [block.op for block in blocks] == ["mbconv", "conv", "skip"]
    assert dict(blocks[0].choices) == {"kernel_size": 3, "expand_ratio": 3}
    assert found.resolution == 32


@pytest.mark.parametrize(
    ("numbers", "cells", "says"),
    [
        (["0", "0"], {"resolution": "16"}, "has 2 numbers, a network of mixed has 3 blocks"),
        (["0", "7", "8"], {"resolution": "16"}, r"blocks\[1\]: is 7, which stands for no op"),
        (["0", "0", "dense"], {"resolution": "16"}, r"stages\[1\].* is dense, whose op is conv"),
        (["0", "0", "1"], {"resolution": "16"}, "is 1, whose kernel_size is 5; .*offers 3"),
        (["0", "0", "8"], {}, "do not say resolution"),
        (["0", "0", "8"], {"resolution": "24"}, "resolution: is 24; allowed: 16, 32"),
    ],
)
def test_numbers_of_no_network_say_why(
    space: SearchSpace, numbers: list[str], cells: dict[str, object], says: str
) -> None:
    with pytest.raises(ArchitectureError, match=says):
        decode_numbers(space, numbers, cells)


def test_what_numbers_stand_for_is_no_part_of_what_a_space_holds(space: SearchSpace) -> None:
    bare = {name: value for name, value in MIXED.items() if name != "op_numbers"}
    assert SearchSpace.from_dict(bare).fingerprint == space.fingerprint
    assert SearchSpace.from_dict(space.to_dict()).definition == space.definition


def test_a_number_for_an_op_that_no_stage_offers_is_refused() -> None:
    numbers = {0: {"op": "fused_mbconv", "kernel_size": 3}}
    with pytest.raises(SpaceError, match="0 stands for 'fused_mbconv', which no stage offers"):
        SearchSpace.from_dict({**MIXED, "op_numbers": numbers})


def test_an_op_without_dimensions_is_the_smallest_wherever_it_is_written(
    space: SearchSpace,
) -> None:
    ops = [block.op for stage in space.smallest.stages for block in stage.blocks]
    assert ops == ["skip"] * 3
    ops = [block.op for stage in space.largest.stages for block in stage.blocks]
    assert ops == ["conv", "conv", "mbconv"]
