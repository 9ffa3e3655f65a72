"""Files of version 0.1.0 (tests/fixtures/v0_1_0) still open; nothing is trained or timed anew."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

import nassearch as ns

FIXTURES = Path(__file__).parent / "fixtures" / "v0_1_0"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of everything, in a place of its own, which is the working directory."""
    place = shutil.copytree(FIXTURES, tmp_path / "project")
    monkeypatch.chdir(place)
    return place


def test_a_run_opens_with_its_supernet_and_its_images(old: Path) -> None:
    supernet = ns.load_supernet("run")
    assert supernet.step == 70
    assert supernet.space.fingerprint == "177818a1b9e870b3"
    assert supernet.data.num_classes == 10
    assert supernet.recipe.training.epochs == 2
    assert 0.0 < supernet.accuracy(supernet.space.largest).value < 1.0


def test_a_table_opens_and_predicts(old: Path) -> None:
    table = ns.load_table(old / "latency_tables" / "old_box" / "onnxruntime-fp32-b1-t1.csv")
    assert (len(table.blocks), len(table.networks)) == (15, len(table.networks_to_pandas()))
    facts = ns.predict_latency(ns.load_supernet("run").space.largest, table, space="mini.yaml")
    assert facts["low_ms"] < facts["latency_ms"] < facts["high_ms"]


def test_the_last_search_opens_with_its_front_and_picks_wherever_the_run_lies(old: Path) -> None:
    moved = (old / "run").rename(old / "elsewhere")
    result = ns.load_search(moved)
    assert [(pick.budget, pick.architecture.id) for pick in result.picks] == [("55us", "05710fff")]
    assert result.supernet.directory == moved
    front = result.front.to_pandas(space=result.supernet.space)
    assert set(front["latency_provenance"]) == {"predicted from measured fake_box/fake-fp32-b1-t1"}
    assert str(front["accuracy_provenance"][0]) == "val (287 images)"


def test_an_old_search_is_exported(old: Path) -> None:
    (exported,) = ns.export_subnets("run", out=old / "again")
    before, now = ns.load_export("run/exports/05710fff").config, exported.config
    assert now.to_architecture() == before.to_architecture()
    assert now.accuracy.value == before.accuracy.value
    assert [claim.setting for claim in now.latency] == [claim.setting for claim in before.latency]


def test_an_old_run_is_searched_anew(old: Path) -> None:
    result = ns.search_subnets("run", devices=["old_pi"], budgets=["70%"], trials=6)
    (claim,) = result.picks[0].latency
    assert claim.predicted_ms <= claim.budget_ms
    assert claim.unmeasured == "'old_pi' is not this machine"


def test_an_old_export_loads_and_is_verified(old: Path) -> None:
    network = ns.load("run/exports/05710fff")
    assert network(torch.zeros(2, *network.input_shape)).shape == (2, 10)
    (verified,) = ns.verify_exports("run/exports/97ac359e", seconds=0.1)
    assert set(verified.formats) == {"weights", "onnx", "pt2", "int8"}
    assert verified.largest_difference < 1e-4
    assert verified.accuracy is not None and verified.accuracy.split == "test"


def test_an_old_bundles_results_are_imported(old: Path) -> None:
    from nassearch.cli import app  # as a user would: there is no other way in

    table = old / "latency_tables" / "old_pi" / "onnxruntime-fp32-b1-t1.csv"
    before = ns.load_table(table)
    shutil.rmtree(table.parent)
    arguments = ["profile", "--device", "old_pi", "--import", "results.json"]
    app([*arguments, "--bundle", "bundle.zip"], standalone_mode=False)
    assert ns.load_table(table).blocks == before.blocks
    with zipfile.ZipFile(old / "bundle.zip") as bundle:
        assert "run.py" in bundle.namelist()


def test_an_old_report_is_written_again(old: Path) -> None:
    page = ns.write_report("run").read_text(encoding="utf-8")
    assert "fake_box" in page and "old_pi" in page
