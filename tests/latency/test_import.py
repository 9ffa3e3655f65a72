"""Tables and networks that others measured, read exactly and refused where they are damaged."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from nassearch.errors import TableError
from nassearch.latency.importing.networks_csv import latency_columns, load_networks
from nassearch.latency.importing.ofa import import_ofa_tables
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.table import LatencyTable
from nassearch.setting import Setting
from nassearch.space import Architecture, BlockSpec, SearchSpace, block_specs, lower

SETTING = Setting("note10", "tflite", "fp32", 1, 1)
DATA = Path(__file__).parents[3] / "shared" / "data" / "latency"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")

MBCONV = (
    "expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:5-stride:1-idskip:1-se:1-hs:1"
)
HEAD = {
    "Conv_1-input:5x5x192-output:5x5x1152": 0.4,
    "AvgPool2D-input:5x5x1152-output:1x1x1152": 0.01,
    "Conv_2-input:1x1x1152-output:1x1x1536": 0.7,
    "Logits-input:1x1x1536-output:1000": 0.6,
}


def _write(path: Path, entries: dict[str, float]) -> Path:
    content = {key: {"mean": ms, "std": 0.01, "count": 100} for key, ms in entries.items()}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_operators_become_blocks_and_the_head_is_their_sum(tmp_path: Path) -> None:
    stem = "Conv-input:160x160x3-output:80x80x24"
    path = _write(tmp_path / "160.yaml", {stem: 0.5, MBCONV: 1.25, **HEAD})
    table = import_ofa_tables([path], SETTING)
    assert table["conv-i3-o24-k3-s2-hswish-r160"].median_ms == 0.5
    assert table["mbconv-i136-o136-k5-e3-s1-se-hswish-r10"].median_ms == 1.25
    head = table["head-i192-o1000-x1152-f1536-s1-hswish-r5"]
    assert head.median_ms == sum(HEAD.values())
    assert head.runs == 100


def test_a_block_in_two_tables_is_pooled_by_count(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{ms}.yaml", {MBCONV: ms}) for ms in (1.0, 2.0)]
    measured = import_ofa_tables(paths, SETTING)["mbconv-i136-o136-k5-e3-s1-se-hswish-r10"]
    assert measured.median_ms == 1.5
    assert measured.runs == 200


def test_an_imported_table_is_saved_and_read_like_any_other(tmp_path: Path) -> None:
    table = import_ofa_tables([_write(tmp_path / "a.yaml", {MBCONV: 1.25, **HEAD})], SETTING)
    loaded = LatencyTable.load(table.save(tmp_path), SETTING)
    assert set(loaded.blocks) == set(table.blocks)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({MBCONV: -1.0}, "plausible"),
        ({"Swin-input:8x8x3-output:8x8x3": 1.0}, "'Swin' is not known"),
        ({"nonsense": 1.0}, "not an operator"),
        ({"Conv-input:8x9x3-output:4x4x3": 1.0}, "square"),
        ({"Conv_1-input:5x5x192-output:5x5x1152": 1.0}, "no Logits"),
    ],
)
def test_an_entry_that_is_not_understood_is_named(
    tmp_path: Path, entries: dict[str, float], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        import_ofa_tables([_write(tmp_path / "table.yaml", entries)], SETTING)


@needs_data
def test_sums_of_the_note10_table_are_reproduced_exactly(rng: np.random.Generator) -> None:
    resolutions = [160, 192, 224]  # no block occurs at two of them
    paths = [DATA / f"note10_ofa_lut/{number}_lookup_table.yaml" for number in resolutions]
    table = import_ofa_tables(paths, SETTING)
    definition = SearchSpace.load("mobilenet_v3_w12").to_dict()
    space = SearchSpace.from_dict({**definition, "resolution": resolutions})
    table.require_space(space, block_specs(space))
    predictor = LatencyPredictor.from_table(table, space)
    for architecture in space.sample_many(rng, 20):
        path = DATA / f"note10_ofa_lut/{architecture.resolution}_lookup_table.yaml"
        entries = {
            re.sub(r"-idskip:\d", "", key): entry
            for key, entry in yaml.safe_load(path.read_text()).items()
        }
        expected = sum(
            entry["mean"]
            for key, entry in entries.items()
            if key.split("-")[0] in ("Conv", "Conv_1", "Conv_2", "AvgPool2D", "Logits")
        )
        for spec in lower(space, architecture)[1:-1]:
            out, mid = spec.out_resolution, spec.mid_channels
            expected += entries[
                f"expanded_conv-input:{spec.resolution}x{spec.resolution}x{spec.in_channels}"
                f"-output:{out}x{out}x{spec.out_channels}-expand:{mid}"
                f"-kernel:{spec.get('kernel_size')}-stride:{spec.stride}"
                f"-se:{int(spec.get('attention') == 'se')}"
                f"-hs:{int(spec.get('activation') == 'hswish')}"
            ]["mean"]
        assert predictor.predict([architecture])[0] == pytest.approx(expected, rel=1e-12)


OTHER_NAMES = {
    "expanded_conv": "MBConv",
    "Conv": "first_conv",
    "Conv_1": "final_expand_layer",
    "Conv_2": "feature_mix_layer",
    "Logits": "classifier",
}


def _respelled(key: str) -> str:
    name, *rest = key.split("-")
    return "-".join((OTHER_NAMES.get(name, name), *rest))


def test_once_for_all_s_own_names_give_the_same_blocks(tmp_path: Path) -> None:
    stem = "Conv-input:160x160x3-output:80x80x24"
    entries = {stem: 0.5, MBCONV: 1.25, **HEAD}
    path = tmp_path / "160.yaml"
    content = {_respelled(key): {"mean": ms, "var": 1e-4} for key, ms in entries.items()}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    table = import_ofa_tables([path], SETTING)
    known = import_ofa_tables([_write(tmp_path / "known.yaml", entries)], SETTING)
    assert {key: m.median_ms for key, m in table.blocks.items()} == {
        key: m.median_ms for key, m in known.blocks.items()
    }
    measured = table["mbconv-i136-o136-k5-e3-s1-se-hswish-r10"]
    assert measured.p90_ms == pytest.approx(1.25 + 1.2816 * 0.01)
    assert measured.runs == 1
    assert sum(m.median_ms for m in table.blocks.values()) == pytest.approx(sum(entries.values()))


def test_a_table_of_several_resolutions_has_a_head_for_each(tmp_path: Path) -> None:
    shared = {
        "feature_mix_layer-input:1x1x1152-output:1x1x1536": 0.7,
        "classifier-input:1x1x1536-output:1000": 0.6,
    }
    entries = {
        f"final_expand_layer-input:{r}x{r}x192-output:{r}x{r}x1152": r / 10 for r in (5, 6, 7)
    }
    pool = {"AvgPool2D-input:6x6x1152-output:1x1x1152": 0.05}  # the others' is in their expansion
    path = _write(tmp_path / "all.yaml", {**entries, **shared, **pool})
    table = import_ofa_tables([path], SETTING)
    found = {BlockSpec.from_key(key).resolution: m.median_ms for key, m in table.blocks.items()}
    assert found == pytest.approx({5: 0.5 + 1.3, 6: 0.6 + 0.05 + 1.3, 7: 0.7 + 1.3})


def test_a_mix_layer_alone_is_the_whole_head_of_a_proxyless_table(tmp_path: Path) -> None:
    entries = {
        "MBConv-input:7x7x192-output:7x7x320-expand:6-kernel:7-stride:1-idskip:0": 5.25,
        "feature_mix_layer-input:7x7x320-output:7x7x1280": 1.5,
        "classifier-input:7x7x1280-output:1000": 1.0,
    }
    table = import_ofa_tables([_write(tmp_path / "224.yaml", entries)], SETTING)
    assert table["mbconv-i192-o320-k7-e6-s1-relu6-r7"].median_ms == 5.25
    assert table["head-i320-o1000-x1280-s1-relu6-r7"].median_ms == 2.5


HEADER = "resolution,ks20,expand20,depth5,ms"
ROW = f"136,{'-'.join(['5'] * 20)},{'-'.join(['4'] * 20)},2-3-4-2-2,14.9"


@pytest.fixture
def ofa() -> SearchSpace:
    return SearchSpace.load("mobilenet_v3")


def _csv(tmp_path: Path, row: str) -> Path:
    path = tmp_path / "networks.csv"
    path.write_text(f"{HEADER}\n{row}\n", encoding="utf-8")
    return path


def test_a_row_is_a_network_with_its_milliseconds(tmp_path: Path, ofa: SearchSpace) -> None:
    [(space, architecture, milliseconds)] = load_networks(_csv(tmp_path, ROW), ofa, column="ms")
    assert milliseconds == 14.9
    assert architecture.resolution == 136
    assert [len(stage.blocks) for stage in architecture.stages] == [1, 2, 3, 4, 2, 2]
    assert dict(architecture.stages[2].blocks[0].choices)["kernel_size"] == 5
    assert len(lower(space, architecture)) == 16


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW.replace("14.9", "-2"), "row 1.*plausible"),
        (ROW.replace("2-3-4-2-2", "2-3-9-2-2"), "row 1.*not a network"),
        (ROW.replace("5-5", "9-5", 1), "row 1.*not a network"),
        (ROW.replace("2-3-4-2-2", "2-x"), "row 1.*not a network"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, ofa: SearchSpace, row: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        load_networks(_csv(tmp_path, row), ofa, column="ms")


def test_a_missing_column_names_those_there_are(tmp_path: Path, ofa: SearchSpace) -> None:
    with pytest.raises(TableError, match="no column 'pi4'"):
        load_networks(_csv(tmp_path, ROW), ofa, column="pi4")


def test_proxyless_tables_give_the_ratio_and_the_variance(tmp_path: Path) -> None:
    key = "expanded_conv-input:7x7x192-output:7x7x320-expand:6-kernel:5-stride:1-idskip:0"
    path = tmp_path / "mobile_trim.yaml"
    entry = {"count": 154, "mean": 5.25, "var": 0.16}
    path.write_text(yaml.safe_dump({key: entry}), encoding="utf-8")
    table = import_ofa_tables([path], SETTING)
    measured = table["mbconv-i192-o320-k5-e6-s1-relu6-r7"]
    assert measured.median_ms == 5.25
    assert measured.p10_ms == pytest.approx(5.25 - 1.2816 * 0.4)
    assert measured.p90_ms == pytest.approx(5.25 + 1.2816 * 0.4)
    assert measured.runs == 154


NO_KERNEL = MBCONV.replace("-kernel:5", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("160: {mean: 1.0}", "160: is not an operator"),
        (f"{NO_KERNEL}: {{mean: 1.0}}", "says no kernel"),
        (
            f"{MBCONV.replace('kernel:5', 'kernel:3.0')}: {{mean: 1.0}}",
            r"'3\.0' is no whole",
        ),
        (f"{MBCONV.replace('expand:408', 'expand:x')}: {{mean: 1.0}}", "'x' is no whole number"),
        (f"{MBCONV.replace('stride:1', 'stride:0')}: {{mean: 1.0}}", "'0' is no whole number"),
        (f"{MBCONV.replace('10x10x136', '0x0x136', 1)}: {{mean: 1.0}}", "square"),
        (f"{MBCONV}: {{mean: 1.0, count: 0}}", "count: 0 is no number of runs"),
        (f"{MBCONV}: {{mean: 1.0, std: -0.1}}", "std: -0.1 is not plausible"),
        (f"{MBCONV}: {{mean: 1.0, std: .nan}}", "std: nan is not plausible"),
        (f"{MBCONV}: {{mean: 1.0, var: -1}}", "var: -1 is not plausible"),
        (f"{MBCONV}: {{mean: .inf}}", "mean: inf is not plausible"),
        (f"{MBCONV}: {{mean: 12 ms}}", "'12 ms' is not a number"),
        (f"{MBCONV}: {{std: 0.1}}", "mean: is missing"),
        (f"{MBCONV}: 1.0", "mean: is missing"),
        (f"{MBCONV}: {{mean: 1.0}}\n{MBCONV}: {{mean: 2.0}}", "twice"),
        ("- 1", "not a lookup table"),
        ("a: &a [1]\nb: *a", "not an operator"),
    ],
)
def test_a_damaged_entry_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=message) as caught:
        import_ofa_tables([path], SETTING)
    assert "table.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_of_a_billion_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    path = tmp_path / "table.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(TableError, match="more than"):
        import_ofa_tables([path], SETTING)


def _table(tmp_path: Path, *, scale: float) -> Path:
    """Blocks of a phone, times `scale`."""
    keys = {MBCONV.replace("10x10", f"{r}x{r}"): scale * r * r / 80 for r in range(8, 28, 4)}
    return _write(tmp_path / "scaled.yaml", keys)


@pytest.mark.parametrize(("unit", "scale"), [("s", 1e-3), ("us", 1e3)])
def test_a_whole_table_in_another_unit_is_refused_until_it_is_named(
    tmp_path: Path, unit: str, scale: float
) -> None:
    path = _table(tmp_path, scale=scale)
    with pytest.raises(TableError, match=r"plausible.*--unit"):
        import_ofa_tables([path], SETTING)
    table = import_ofa_tables([path], SETTING, unit=unit)
    right = import_ofa_tables([_table(tmp_path, scale=1.0)], SETTING)
    for key, measured in right.blocks.items():
        assert table[key].median_ms == pytest.approx(measured.median_ms)


def test_a_unit_that_was_named_is_not_questioned_again(tmp_path: Path) -> None:
    slow = import_ofa_tables([_table(tmp_path, scale=1e3)], SETTING, unit="ms")  # a tiny chip
    loaded = LatencyTable.load(slow.save(tmp_path / "tables"), SETTING)
    assert loaded.facts["unit"] == "ms"
    assert set(loaded.blocks) == set(slow.blocks)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW.replace("14.9", "12 ms"), "row 1: ms: '12 ms' is not a number.*without a unit"),
        (ROW.replace("14.9", '"14,9"'), "row 1: ms: '14,9' is not a number.*with a point"),
        (ROW.replace("14.9", ""), "row 1.*plausible"),
        (ROW.replace("14.9", "inf"), "row 1.*plausible"),
        (ROW.replace("136", "", 1), "row 1: resolution: is empty"),
        (ROW.replace("136", "224.5", 1), "224.5 is not a number of pixels"),
        (ROW.replace("136", "big", 1), "'big' is not a number"),
        (f"{ROW}\n{ROW.replace('14.9', '17')}", "row 2: holds the same network as row 1"),
        ("", "holds no network"),
    ],
)
def test_a_damaged_cell_is_one_line(
    tmp_path: Path, ofa: SearchSpace, row: str, message: str
) -> None:
    with pytest.raises(TableError, match=message) as caught:
        load_networks(_csv(tmp_path, row), ofa, column="ms")
    assert "networks.csv" in str(caught.value)


def test_a_row_that_says_the_same_again_counts_once(tmp_path: Path, ofa: SearchSpace) -> None:
    assert len(load_networks(_csv(tmp_path, f"{ROW}\n{ROW}"), ofa, column="ms")) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, ofa: SearchSpace) -> None:
    path = _csv(tmp_path, ROW)
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert len(load_networks(path, ofa, column="ms")) == 1


@pytest.mark.parametrize(("unit", "factor"), [("s", 1e-3), ("us", 1e3)])
def test_networks_in_another_unit_are_refused_until_it_is_named(
    tmp_path: Path, ofa: SearchSpace, unit: str, factor: float
) -> None:
    path = _csv(tmp_path, ROW.replace("14.9", f"{14.9 * factor:g}"))
    with pytest.raises(TableError, match=r"plausible.*--unit"):
        load_networks(path, ofa, column="ms", setting=SETTING)
    [(_, _, milliseconds)] = load_networks(path, ofa, column="ms", setting=SETTING, unit=unit)
    assert milliseconds == pytest.approx(14.9)


NUMBERED = {
    "name": "numbered",
    "resolution": [16, 32],
    "stages": [
        {
            "op": ["skip", {"op": "mbconv", "kernel_size": [3, 5], "expand_ratio": 3}],
            "width": 16,
            "depth": [1, 2, 3],
        }
    ],
    "op_numbers": {0: {"op": "skip"}, 1: {"op": "mbconv", "kernel_size": 5}},
}
CELLS = {"resolution": 32, "stages[0].depth": 2}


@pytest.fixture
def numbered() -> SearchSpace:
    return SearchSpace.from_dict(NUMBERED)


@pytest.fixture
def network(numbered: SearchSpace) -> Architecture:
    """Two blocks, the first of kernel 5, the second left out."""
    blocks = [{"op": "mbconv", "kernel_size": 5, "expand_ratio": 3}, {"op": "skip"}]
    value = {"resolution": 32, "stages": [{"width": 16, "blocks": blocks}]}
    return numbered.check(Architecture.from_dict(value))


def _rows(numbered: SearchSpace, network: Architecture) -> dict[str, dict[str, object]]:
    genes = numbered.encode(network)
    named = {
        gene.name: gene.choices[value] for gene, value in zip(numbered.genes, genes, strict=True)
    }
    del named["stages[0].blocks[2].mbconv.kernel_size"]  # says nothing at depth 2
    return {
        "genes": {"genes": "-".join(map(str, genes))},
        "a column a gene": named,
        "JSON": {"net": json.dumps(network.to_dict())},
        "JSON of cells": {"net": json.dumps(named)},
        "JSON of numbers": {"net": json.dumps({"blocks": "1-0-0", **CELLS})},
        "numbers": {"blocks": "1-0-0", **CELLS},
        "numbers in brackets": {"what": "[1, 0, 0]", **CELLS},
    }


FORMS = ("genes", "a column a gene", "JSON", "JSON of cells", "JSON of numbers", "numbers",
         "numbers in brackets")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_row_names_its_network_in_any_form(
    tmp_path: Path, numbered: SearchSpace, network: Architecture, form: str
) -> None:
    path = tmp_path / "any.csv"
    row = {"id": "n7", **_rows(numbered, network)[form], "a_ms": 4.5, "b_ms": 7.5}
    pd.DataFrame([row]).to_csv(path, index=False)
    assert latency_columns(path, numbered) == ["a_ms", "b_ms"]
    for column, ms in (("a_ms", 4.5), ("b_ms", 7.5)):
        [(_, found, milliseconds)] = load_networks(path, numbered, column=column)
        assert (found, milliseconds) == (network, ms)


def test_the_user_says_which_of_two_columns_names_the_network(
    tmp_path: Path, numbered: SearchSpace, network: Architecture
) -> None:
    path = tmp_path / "two.csv"
    row = {"before": "0-0-0", "after": "1-0-0", **CELLS, "ms": 4.5}
    pd.DataFrame([row]).to_csv(path, index=False)
    [(_, found, _)] = load_networks(path, numbered, column="ms", architecture="after")
    assert found == network
    with pytest.raises(TableError, match="no column 'later'"):
        load_networks(path, numbered, column="ms", architecture="later")


def test_once_for_all_s_json_has_its_lists(tmp_path: Path, ofa: SearchSpace) -> None:
    value = {"ks": [5] * 20, "e": [4] * 20, "d": [2, 3, 4, 2, 2], "r": [160]}
    path = tmp_path / "ofa.csv"
    pd.DataFrame([{"arch": json.dumps(value), "ms": 14.9}]).to_csv(path, index=False)
    [(_, found, _)] = load_networks(path, ofa, column="ms")
    assert found.resolution == 160
    assert [len(stage.blocks) for stage in found.stages] == [1, 2, 3, 4, 2, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net,ms\n\"{\"\"stages\"\": 1}\",4\n", "row 1: is not a network of numbered .net"),
        ("net,ms\n{,4\n", "row 1: is not a network of numbered .net: is no JSON"),
        ("net,ms\n" + '"{""a"": ' + "[" * 9999 + '",4\n', "row 1: .*(no JSON|nested)"),
        ("net,ms\n\"{\"\"a\"\": 1}\",4\n", "has the keys a; it needs resolution and stages"),
        ("blocks,ms,resolution,stages[0].depth\n0-0-0,4,16,1\n0-7-0,5,16,3\n",
         r"row 2: .*blocks: stages\[0\].blocks\[1\]: is 7, which stands for no op"),
        ("blocks,ms,resolution,stages[0].depth\n0-0-0,4,16,1\n0-0,5,16,3\n",
         "row 2: .*blocks: op numbers: has 2 numbers, a network of numbered has 3"),
        ("blocks,ms,resolution,stages[0].depth\n0-0-0,4,16,9\n",
         r"row 1: .*stages\[0\].depth: is 9; allowed: 1, 2, 3"),
        ("blocks,ms,resolution,stages[0].depth\n0-0-0,4,,1\n", "row 1: resolution: is empty"),
        ("blocks,ms,resolution,stages[0].depth\n0-0-0,x,16,1\n", "row 1: ms: 'x' is not a number"),
        ("blocks,ms,resolution,stages[0].depth\n0-0-0,4,16,1,5\n", "more cells than it has col"),
        ("blocks,ms,resolution,stages[0].depth\n0-0-0,4,16,1\n0,1,2,3,4\n", "not a CSV .*line 3"),
        ("genes,ms\n0-x,4\n", "row 1: .*genes: '0-x' is no list of numbers"),
        ("net,ms\nx,4\n", "names no networks; .*it has net, ms"),
    ],
)  # fmt: skip
def test_a_row_in_any_form_that_is_no_network_is_one_line(
    tmp_path: Path, numbered: SearchSpace, text: str, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=message) as caught:
        load_networks(path, numbered, column="ms")
    assert "bad.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
