"""What people read of an export: its card, its description, its remarks."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from nassearch.cli.describe_table import overview
from nassearch.export import int8
from nassearch.export.card import model_card
from nassearch.export.export_config import read_export
from nassearch.pipeline.listing import describe, list_plugins
from nassearch.runtimes import RUNTIMES
from tests.export.conftest import WriteExport, claim


def shown(name: str | Path) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(overview(describe(str(name))))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_an_export_is_described_in_plain_words(write: WriteExport) -> None:
    text = shown(write([claim()], ("weights", "onnx")))
    assert not set("{}'") & set(text.replace("split 'val'", ""))
    for part in ("digits_tiny", "0.00%", "100 images", "stage 0", "model.onnx", "1.00 ms"):
        assert part in text


def test_a_device_is_described_in_plain_words() -> None:
    text = shown("raspberry_pi_5")
    assert "{" not in text
    assert "rates.bandwidth_gb_s" in text


def test_a_runtime_that_cannot_run_here_says_so() -> None:
    rows = {row["name"]: row["runs here"] for row in list_plugins("runtimes")}
    assert set(rows) == set(RUNTIMES)
    assert rows["onnxruntime"] == rows["fake"] == "yes"
    assert all(text == "yes" or text.startswith("no: ") for text in rows.values())


def test_a_broken_device_does_not_break_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latency_tables" / "broken").mkdir(parents=True)
    (tmp_path / "latency_tables" / "broken" / "device.yaml").write_text("name: [")
    monkeypatch.chdir(tmp_path)
    rows = {row["name"]: row["description"] for row in list_plugins("devices")}
    assert rows["broken"].startswith("cannot be read: ")
    assert "host" in rows
    assert "digits_tiny" in shown("digits_tiny")


def test_int8_that_gains_nothing_says_so_with_both_figures(
    write: WriteExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_SLOWER", 0.0)  # whatever it takes here is too long
    export = write(formats=("onnx", "int8"))
    facts = read_export(export).formats["int8"]
    assert facts["int8_ms"] > 0
    assert facts["float_size_bytes"] == (export / "model.onnx").stat().st_size
    assert "slower than in float on one thread of this CPU (" in facts["remark"]
    is_larger = (export / "model-int8.onnx").stat().st_size > facts["float_size_bytes"]
    assert ("larger than in float" in facts["remark"]) == is_larger
    assert f"`model-int8.onnx` is {facts['remark']}." in (export / "README.md").read_text()


def test_an_accuracy_that_is_no_number_is_not_printed_as_one(write: WriteExport) -> None:
    export = write()
    config = read_export(export)
    unknown = config.accuracy.model_copy(update={"value": float("nan")})
    card = model_card(config.model_copy(update={"accuracy": unknown}), export, (1, 8, 8))
    assert "Its accuracy was not measured" in card
    assert "nan" not in card
