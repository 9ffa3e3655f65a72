"""Architecture and policy searched together, exported and verified as one graph."""

import json
import shutil
from pathlib import Path

import onnx
import pytest

import nassearch as ns
from nassearch.errors import ConfigError
from nassearch.pipeline.pick import Pick
from nassearch.pipeline.profile import table_places
from nassearch.pipeline.search import common_precisions, make_target
from nassearch.pipeline.search_result import SearchResult
from nassearch.search.journal import load_latest
from nassearch.space import SearchSpace
from tests.pipeline.conftest import CommandLine


@pytest.fixture
def place(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, with the test standing beside it."""
    copy = Path(shutil.copytree(run, tmp_path / "runs" / "tiny", symlinks=True))
    shutil.copytree(run.parent.parent / "latency_tables", tmp_path / "latency_tables")
    monkeypatch.chdir(tmp_path)
    return copy


@pytest.mark.filterwarnings("ignore:.* as long in int8 as in fp32")  # of so small a space
def test_policies_are_searched_exported_and_verified(place: Path, nassearch: CommandLine) -> None:
    setting = ("--device", "host", "--runtime", "onnxruntime", "--precision", "mixed")
    missing = nassearch("search", *setting, "--supernet", place, "--budget", "60%")
    assert missing.code == 2
    assert "nassearch profile --device host" in missing.err
    assert "--precision mixed" in missing.err

    few = ("--seconds", 1, "--networks", 5)
    profiled = nassearch("profile", *setting, "--space", "digits_tiny", *few)
    assert profiled.code == 0, profiled.err
    stems = {path.stem for path in (place.parent.parent / "latency_tables/host").glob("*.csv")}
    for precision in ("fp32", "int8", "mixed"):
        assert f"onnxruntime-{precision}-b1-t1" in stems

    names = ("accuracy", "latency", "size_bytes")
    objectives = [word for name in names for word in ("--objective", name)]
    searched = nassearch(
        *("search", *setting, "--supernet", place, "--budget", "95%", "--trials", 8),
        *(*objectives, "--json"),
    )
    assert searched.code == 0, searched.err
    result = SearchResult.load(place)
    assert all(item.architecture.precisions for item in result.front)
    assert result.front.sorted()[0].number("size_bytes") > 0

    candidates = load_latest(place, space=result.supernet.space).candidates
    both = [item for item in candidates if len(set(item.architecture.precisions or ())) == 2]
    pick = Pick("", both[0], (), result.supernet, place)
    (exported,) = ns.export_subnets([pick], formats=["onnx", "int8"])
    export = exported.directory
    graph = onnx.load(export / "model-int8.onnx").graph
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert 0 < len(quantized) < 60
    verified = nassearch("verify", export, "--json")
    assert verified.code in (0, 3), verified.err  # a busy machine may break a promised latency
    checked = json.loads((export / "verify.json").read_text())
    assert {"onnx", "int8"} <= set(checked["formats"])
    predicted = nassearch("predict", export, *setting, "--json").json()
    assert predicted["setting"] == "host/onnxruntime-mixed-b1-t1"

    assert nassearch("report", place).code == 0
    page = (place / "report.html").read_text()
    assert '"p":"int8"' in page
    known = json.loads((place / "sensitivity.json").read_text())
    assert len(known["blocks"]) == 9
    assert "is expected to add to its loss" in page


def test_settings_of_one_precision_are_searched_apart(run: Path) -> None:
    space = SearchSpace.load("digits_tiny")
    one = make_target("box", space, places=table_places(run))
    assert common_precisions([one, one]) == ()
    with pytest.raises(ConfigError, match="do not deploy the same networks"):
        common_precisions([one, Mixed()])  # type: ignore[list-item]


class Mixed:
    """As much of a mixed target as is asked for."""

    setting = "box/fake-mixed-b1-t1"
    space = SearchSpace.load("digits_tiny").mixed(("int8", "fp32"))
