"""Tables and networks that others measured, read exactly and refused where they are damaged."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from nassearch.errors import TableError
from nassearch.latency.importing.networks_csv import load_networks
from nassearch.latency.importing.ofa import import_ofa_tables
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.table import LatencyTable
from nassearch.setting import Setting
from nassearch.space import SearchSpace, block_specs, lower

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
