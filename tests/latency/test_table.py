"""Latency tables: what is written is read back, and what is wrong is refused with its place."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from nassearch.errors import MissingKeyError, TableError
from nassearch.latency.table import LatencyTable, find_table
from nassearch.latency.table_file import networks_path, write_file
from nassearch.setting import Setting
from nassearch.space import SearchSpace, block_specs, lower


@pytest.fixture
def path(table: LatencyTable, tmp_path: Path) -> Path:
    return table.save(tmp_path)


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _row(path: Path) -> list[str]:
    """The cells of the first block's row."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    return lines[1].split(",")


def test_a_saved_table_is_the_table(table: LatencyTable, path: Path) -> None:
    loaded = LatencyTable.load(path, table.setting)
    assert loaded.facts == table.facts
    assert set(loaded.blocks) == set(table.blocks)
    for key, measured in table.blocks.items():
        assert loaded[key].median_ms == pytest.approx(measured.median_ms, rel=1e-5)
        assert loaded[key].runs == measured.runs
    assert [n.genes for n in loaded.networks] == [n.genes for n in table.networks]
    assert [n.space for n in loaded.networks] == [n.space for n in table.networks]
    for one, again in zip(table.networks, loaded.networks, strict=True):
        assert again.leave_one_out_ms == pytest.approx(one.leave_one_out_ms, rel=1e-5)


def test_pandas_reads_a_table(table: LatencyTable, path: Path) -> None:
    frame = pd.read_csv(path, comment="#")
    assert len(frame) == len(table.blocks)
    assert frame["median_ms"].dtype == float


def test_a_table_is_found_by_its_setting(table: LatencyTable, path: Path, setting: Setting) -> None:
    found = find_table(setting, [path.parent, path.parents[1]])
    assert found is not None
    assert set(found.blocks) == set(table.blocks)
    assert find_table(replace(setting, batch=64), [path.parents[1]]) is None


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"precision": "int8"}, "precision"),
        ({"batch": 64}, "batch"),
        ({"threads": 4}, "threads"),
        ({"runtime": "onnxruntime"}, "runtime"),
        ({"device": "pi4"}, "device"),
    ],
)
def test_a_table_of_another_setting_is_refused(
    path: Path, setting: Setting, asked: dict[str, object], name: str
) -> None:
    with pytest.raises(TableError, match=f"was measured with {name}"):
        LatencyTable.load(path, replace(setting, **asked))


def test_networks_of_another_setting_are_refused(path: Path, setting: Setting) -> None:
    _edit(networks_path(path), "batch: 1", "batch: 2")
    with pytest.raises(TableError, match="batch 2, not 1"):
        LatencyTable.load(path, setting)


def test_a_table_of_another_schema_is_refused(path: Path, setting: Setting) -> None:
    _edit(path, "schema: 1", "schema: 99")
    with pytest.raises(TableError, match="schema 99"):
        LatencyTable.load(path, setting)


def test_a_table_without_header_is_refused(path: Path, setting: Setting) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line for line in lines if line[0] != "#"), encoding="utf-8")
    with pytest.raises(TableError, match="no header"):
        LatencyTable.load(path, setting)


def test_a_row_that_stands_twice_is_refused(path: Path, setting: Setting) -> None:
    row = ",".join(_row(path))
    _edit(path, row, f"{row}\n{row}")
    with pytest.raises(TableError, match="twice"):
        LatencyTable.load(path, setting)


@pytest.mark.parametrize("milliseconds", ["-1", "0", "nan", "90000000", "inf"])
def test_an_impossible_time_is_refused_with_its_row(
    path: Path, setting: Setting, milliseconds: str
) -> None:
    key, median, *_ = _row(path)
    _edit(path, f"{key},{median},", f"{key},{milliseconds},")
    with pytest.raises(TableError, match=r"plausible|lacks a value"):
        LatencyTable.load(path, setting)


def test_a_table_in_seconds_is_questioned(
    table: LatencyTable, setting: Setting, tmp_path: Path
) -> None:
    blocks = {
        key: replace(m, median_ms=m.median_ms / 1e3, p10_ms=m.p10_ms / 1e3, p90_ms=m.p90_ms / 1e3)
        for key, m in table.blocks.items()
    }
    wrong = replace(table, blocks=blocks)
    with pytest.raises(TableError, match="milliseconds"):
        wrong.save(tmp_path)
    path = tmp_path / "table.csv"
    write_file(path, setting, table.facts, wrong.to_pandas())
    with pytest.raises(TableError, match="milliseconds"):
        LatencyTable.load(path, setting)


def test_percentiles_out_of_order_are_refused(path: Path, setting: Setting) -> None:
    key, median, low, *_ = _row(path)
    _edit(path, f"{key},{median},{low},", f"{key},{median},{float(median) * 2:g},")
    with pytest.raises(TableError, match="percentile"):
        LatencyTable.load(path, setting)


def test_an_unknown_source_is_refused(path: Path, setting: Setting) -> None:
    _edit(path, ",measured", ",guessed")
    with pytest.raises(TableError, match="guessed"):
        LatencyTable.load(path, setting)


def test_a_missing_column_is_refused(path: Path, setting: Setting) -> None:
    _edit(path, "key,median_ms", "key,median_s")
    with pytest.raises(TableError, match="median_s"):
        LatencyTable.load(path, setting)


def test_an_incomplete_row_is_refused(path: Path, setting: Setting) -> None:
    row = _row(path)
    _edit(path, ",".join(row), ",".join(row[:-1]))
    with pytest.raises(TableError, match="lacks a value"):
        LatencyTable.load(path, setting)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ('"0,26"', "median_ms: '0,26' is not a number; write decimals with a point"),
        ("0.26 ms", "median_ms: '0.26 ms' is not a number"),
        ("1e999", "plausible"),
        ("9" * 5000, "plausible"),
    ],
)
def test_a_cell_that_is_no_number_is_named_with_its_row(
    path: Path, setting: Setting, number: str, says: str
) -> None:
    key, median, *_ = _row(path)
    _edit(path, f"{key},{median},", f"{key},{number},")
    with pytest.raises(TableError, match=re.escape(says)) as caught:
        LatencyTable.load(path, setting)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_decimal_comma_that_splits_a_row_is_refused(
    path: Path, setting: Setting, everywhere: bool
) -> None:
    text = path.read_text(encoding="utf-8")
    head, blocks = text[: text.index("key,")], text[text.index("key,") :]
    blocks = re.sub(r"(?<=,0)\.(?=\d)", ",", blocks, count=0 if everywhere else 1)
    path.write_text(head + blocks, encoding="utf-8")
    with pytest.raises(TableError) as caught:
        LatencyTable.load(path, setting)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_table(
    table: LatencyTable, path: Path, setting: Setting
) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert set(LatencyTable.load(path, setting).blocks) == set(table.blocks)


def _keep_header(path: Path, *, rows: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line[0] != "#")
    path.write_text("".join(lines[: first + rows]), encoding="utf-8")


def test_a_table_of_columns_alone_predicts_nothing(
    path: Path, setting: Setting, space: SearchSpace
) -> None:
    """It is no damage: a device may have whole networks alone."""
    _keep_header(path, rows=1)
    table = LatencyTable.load(path, setting)
    assert table.blocks == {}
    with pytest.raises(MissingKeyError, match="nassearch profile"):
        table.require_space(space, block_specs(space))


@pytest.mark.parametrize("keeps", ["header", "nothing"])
def test_a_table_without_columns_is_refused(path: Path, setting: Setting, keeps: str) -> None:
    if keeps == "header":
        _keep_header(path, rows=0)
    else:
        path.write_text("", encoding="utf-8")
    with pytest.raises(TableError) as caught:
        LatencyTable.load(path, setting)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "device: pi",
        "note: &a [" + "x, " * 999 + "x]\n# many: [" + "*a, " * 1999 + "*a]",
        "note: " + "[" * 100_000,
        "note: !!python/object/apply:os.abort []",
    ],
    ids=["twice", "aliases", "deep", "object"],
)
def test_a_header_is_read_like_any_other_yaml(path: Path, setting: Setting, line: str) -> None:
    path.write_text(f"# {line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    with pytest.raises(TableError, match="its header") as caught:
        LatencyTable.load(path, setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["i", "k", "r"])
def test_a_key_of_numbers_without_end_is_refused(path: Path, setting: Setting, place: str) -> None:
    key = _row(path)[0]
    _edit(path, f"{key},", f"{re.sub(f'-{place}[0-9]+', f'-{place}' + '9' * 5000, key)},")
    with pytest.raises(TableError, match="not the key of a block"):
        LatencyTable.load(path, setting)


def test_something_that_is_no_table_is_refused(tmp_path: Path, setting: Setting) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\x00\xff\xfe")
    with pytest.raises(TableError):
        LatencyTable.load(path, setting)


def test_a_missing_block_names_the_command_that_measures_it(
    table: LatencyTable, space: SearchSpace
) -> None:
    specs = block_specs(space)
    blocks = dict(table.blocks)
    del blocks[specs[3].key]
    with pytest.raises(MissingKeyError) as caught:
        replace(table, blocks=blocks).require_space(space, specs)
    message = str(caught.value)
    assert specs[3].key in message
    assert "nassearch profile --device dummy" in message
    assert "lacks 1 of" in message


def test_merging_keeps_the_old_rows_and_takes_the_newer(table: LatencyTable) -> None:
    keys = sorted(table.blocks)
    slow = replace(table[keys[0]], median_ms=9.0)
    old = replace(table, blocks={key: table[key] for key in keys[:5]}, networks=table.networks[:3])
    new = replace(table, blocks={keys[0]: slow}, networks=table.networks[2:5])
    merged = old.merged(new)
    assert set(merged.blocks) == set(keys[:5])
    assert merged[keys[0]].median_ms == 9.0
    assert len(merged.networks) == 5


def test_tables_of_two_settings_do_not_merge(table: LatencyTable) -> None:
    with pytest.raises(TableError, match="merged"):
        table.merged(replace(table, setting=replace(table.setting, batch=2)))


def test_networks_of_a_space_that_is_not_at_hand_are_left_out(
    table: LatencyTable, space: SearchSpace
) -> None:
    strange = replace(table.networks[0], space="nobody_knows_it:12345678")
    found = replace(table, networks=(*table.networks, strange)).pairs(space)
    assert len(found) == len(table.networks)


def test_a_row_in_another_unit_than_its_neighbours_is_questioned(
    path: Path, setting: Setting
) -> None:
    key, median, low, high, *_ = _row(path)
    slipped = ",".join(f"{float(ms) / 1000:.6g}" for ms in (median, low, high))
    _edit(path, f"{key},{median},{low},{high},", f"{key},{slipped},")
    with pytest.raises(TableError, match="times less than its size") as caught:
        LatencyTable.load(path, setting)
    assert key in str(caught.value)


def test_energy_is_kept_and_summed_where_a_table_carries_it(
    table: LatencyTable, space: SearchSpace, tmp_path: Path
) -> None:
    blocks = {key: replace(m, energy_mj=2 * m.median_ms) for key, m in table.blocks.items()}
    loaded = LatencyTable.load(replace(table, blocks=blocks).save(tmp_path), table.setting)
    specs = lower(space, space.largest)
    expected = sum(2 * table[spec.key].median_ms for spec in specs)
    assert loaded.energy(specs) == pytest.approx(expected, rel=1e-4)
    assert table.energy(specs) is None


def test_what_was_measured_is_not_replaced_by_what_is_interpolated(table: LatencyTable) -> None:
    key, measured = next(iter(table.blocks.items()))
    guess = replace(measured, median_ms=9.0, p90_ms=9.0, source="interpolated")
    newer = replace(table, blocks={key: guess}, networks=())
    assert table.merged(newer)[key] == measured
    again = replace(measured, median_ms=measured.median_ms * 1.01, p90_ms=9.0)
    assert table.merged(replace(newer, blocks={key: again}))[key] == again
