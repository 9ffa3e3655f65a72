"""Promised latencies: of which machine, which file and which batch they hold, and what is found."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nassearch.data.dataset import Data
from nassearch.errors import ConfigError, DataError, OutputError
from nassearch.export.export_config import read_export
from nassearch.export.verification import Verification
from nassearch.export.verify import verify
from nassearch.latency.host_identity import this_machine
from nassearch.setting import Setting
from tests.export.conftest import HOST, WriteExport, change, claim

FAKE = Setting("host", "fake")


def verified(export: Path, digits: Data, **options: Any) -> Verification:
    return verify(export, data=digits, seconds=0.05, **options)


def test_a_promise_of_this_machine_is_measured(write: WriteExport, digits: Data) -> None:
    found = verified(write([claim(machine=this_machine())]), digits)
    (check,) = found.latency
    assert check.measured is not None
    assert check.as_predicted
    assert found.broken == []


def test_a_promise_of_another_machine_is_not_measured_here(
    write: WriteExport, digits: Data
) -> None:
    other = replace(this_machine(), model="another", name="Another CPU")
    found = verified(write([claim(machine=other)]), digits)
    (check,) = found.latency
    assert check.measured is None
    assert check.as_predicted is None
    assert check.unmeasured is not None
    assert "another machine" in check.unmeasured
    assert found.broken == []
    # asked for by name, it is no success
    found = verified(write([claim(machine=other)]), digits, device="host")
    (line,) = found.broken
    assert line.startswith("host/onnxruntime-fp32-b1-t1 cannot be checked: ")


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_drift_without_bound_is_not_divided_out(
    write: WriteExport, digits: Data, factor: float
) -> None:
    """As if it had been promised on a machine ten times as fast, or as slow."""
    (check,) = verified(write([claim(FAKE)]), digits).latency
    assert check.measured is not None
    (first,) = verified(write([claim(FAKE, reference_ms=1.0)]), digits).latency
    assert first.drift is not None and first.measured is not None
    promised = claim(FAKE, reference_ms=first.drift * factor)
    found = verified(write([promised]), digits)
    (check,) = found.latency
    assert check.drift == pytest.approx(1 / factor, rel=0.01)
    assert check.as_predicted is None
    assert check.measured is not None
    assert check.measured.median_ms == pytest.approx(first.measured.median_ms, rel=0.01)
    assert "cannot be checked: this machine is 10.00 times" in found.broken[0]


def test_drift_is_told_by_as_many_reference_networks_as_the_promise(
    write: WriteExport, digits: Data
) -> None:
    drifts = []
    for count in (1, 2):
        promised = claim(FAKE, reference_ms=1.0, references=count)
        (check,) = verified(write([promised]), digits).latency
        drifts.append(check.drift)
    # the smallest alone, and the geometric mean of it and the largest
    assert drifts[0] is not None and drifts[1] is not None
    assert drifts[1] > 1.1 * drifts[0]


def test_a_promise_of_an_int8_file_needs_the_file(write: WriteExport, digits: Data) -> None:
    int8 = Setting("host", "onnxruntime", precision="int8")
    found = verified(write([claim(int8)]), digits)
    (line,) = found.broken
    assert "it holds for model-int8.onnx, which is not here; export with --format int8" in line
    assert found.latency[0].measured is None
    found = verified(write([claim(int8)], ("onnx", "int8")), digits)
    assert found.broken == []
    assert found.latency[0].measured is not None


def test_a_promise_of_a_batch_needs_a_graph_of_it(write: WriteExport, digits: Data) -> None:
    eight = claim(replace(HOST, batch=8))
    (line,) = verified(write([eight]), digits).broken
    assert "a batch of 8, model.onnx takes 1; export with --batch 8" in line
    for batch in (8, "dynamic"):
        assert verified(write([eight], batch=batch), digits).broken == []


def test_a_device_is_known_by_its_machine_in_any_directory(
    write: WriteExport, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = replace(HOST, device="mybox")
    found = verified(write([claim(mine, machine=this_machine())]), digits, device="mybox")
    assert found.latency[0].measured is not None
    found = verified(write([claim(mine)]), digits, device="mybox")
    assert "'mybox' is not known here" in found.broken[0]


def test_a_device_of_which_nothing_is_promised_is_refused(write: WriteExport) -> None:
    export = write([claim()])
    with pytest.raises(ConfigError, match="promises nothing on 'hots', did you mean host"):
        verify(export, device="hots")


def test_what_was_measured_is_kept_where_it_can_be(
    write: WriteExport, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = write([claim(FAKE)])
    # as in a directory that cannot be written to: root may write to any
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != export)
    with pytest.warns(UserWarning, match="verify.json is not kept"):
        found = verified(export, digits)
    assert found.latency[0].measured is not None
    assert not (export / "verify.json").exists()
    verified(export, digits, out=tmp_path / "elsewhere")
    assert json.loads((tmp_path / "elsewhere" / "verify.json").read_text())["broken"] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        verified(export, digits, out=tmp_path / "file" / "below")


def test_images_of_other_classes_are_refused(write: WriteExport, digits: Data) -> None:
    export = write()
    names = (*digits.class_names[:-1], "zebra")
    with pytest.raises(DataError, match=r"not those that the network was trained on \(9, zebra"):
        verify(export, data=replace(digits, class_names=names))


def test_an_accuracy_that_is_no_number_is_no_promise_kept(write: WriteExport, digits: Data) -> None:
    export = write()
    recorded = read_export(export).accuracy.model_dump()
    change(export, accuracy={**recorded, "value": float("nan"), "low": float("nan")})
    assert any("recorded nan%" in line for line in verified(export, digits).broken)


def test_a_notebook_shows_what_was_found(write: WriteExport, digits: Data) -> None:
    shown = verified(write([claim(FAKE, budget_ms=1e-9)]), digits)._repr_html_()
    assert "host/fake-fp32-b1-t1" in shown or "fake-fp32-b1-t1" in shown
    assert "over the budget" in shown
