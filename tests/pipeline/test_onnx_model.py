"""The network somebody has, an ONNX file: measured, estimated, tested, drawn beside a front."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nassearch as ns
from nassearch.data.dataset import Data
from nassearch.data.image_set import in_memory
from nassearch.errors import NassearchError
from nassearch.export.onnx_classifier import read_classifier
from nassearch.latency.measurement import MeasuredNetwork, Measurement
from nassearch.latency.own_rates import own_rates, probes
from nassearch.latency.roofline import RELATIVE_ERROR
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import interleave, reference_networks
from nassearch.networks.cost import count
from nassearch.networks.onnx_graph import to_onnx
from nassearch.pipeline.measure_beside import latency_ms, measure_beside
from nassearch.pipeline.onnx_model import ModelCheck
from nassearch.report.beside import Beside
from nassearch.report.page import write_report
from nassearch.report.record import read_run
from nassearch.runtimes.runtime import make_runtime
from nassearch.setting import Setting
from nassearch.space import SearchSpace, block_specs
from nassearch.training.evaluation import Accuracy
from tests.pipeline.conftest import CommandLine
from tests.report.made_up_run import make_run

torch.manual_seed(0)
NETWORK = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 10))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is timed for a moment."""
    monkeypatch.setattr(
        "nassearch.pipeline.onnx_model.interleave",
        lambda runs, **options: interleave(runs, **{**options, "seconds": 0.05}),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.onnx"
    path.write_bytes(to_onnx(NETWORK, (1, 8, 8), batch=None))
    return path


def test_a_file_is_measured_beside_what_its_operators_would_take(
    model: Path, nassearch: CommandLine
) -> None:
    answer = nassearch("predict", model, "--device", "host", "--json")
    assert answer.code == 0, answer.err
    facts = answer.json()
    assert facts["provenance"] == "measured"
    assert facts["setting"] == "host/onnxruntime-fp32-b1-t1"
    assert 0 < facts["low_ms"] <= facts["latency_ms"] <= facts["high_ms"]
    assert 0 < facts["estimated_low_ms"] < facts["estimated_ms"] < facts["estimated_high_ms"]
    assert facts["macs"] == count(NETWORK, torch.zeros(1, 1, 8, 8), name="mine").macs
    assert (facts["input"], facts["classes"]) == ("1x8x8", 10)


def test_a_device_that_is_elsewhere_is_estimated(model: Path) -> None:
    facts = ns.predict_latency(model, "raspberry_pi_4")
    assert facts["provenance"] == "estimated"
    assert facts["high_ms"] == pytest.approx(facts["latency_ms"] * (1 + RELATIVE_ERROR))
    # two layers, each a launch and what takes longer of arithmetic and traffic
    assert facts["latency_ms"] > 0
    with pytest.raises(NassearchError, match=r"zen4.*has no rates") as caught:
        ns.predict_latency(model, "zen4")
    assert "\n" not in str(caught.value)


def test_an_operator_that_is_not_counted_leaves_the_measurement(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.ConvTranspose2d(1, 4, 2, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    path = tmp_path / "mine.onnx"
    path.write_bytes(to_onnx(network, (1, 8, 8)))
    facts = ns.predict_latency(path, "host")
    assert facts["latency_ms"] > 0
    assert "ConvTranspose" in facts["not_estimated"]
    assert "ConvTranspose" in facts["not_counted"]
    with pytest.raises(NassearchError, match="ConvTranspose"):
        ns.predict_latency(path, "raspberry_pi_4")


def test_rates_come_from_what_a_chain_takes_longer_than_one_layer() -> None:
    networks, setting = probes(), Setting("host", "fake")
    runtime = make_runtime(setting)
    times = [runtime.load(network).run_ms() for network in networks]
    rates = own_rates(times, networks, setting)
    slower = own_rates([2 * ms for ms in times], networks, setting)
    assert rates.bandwidth_gb_s == pytest.approx(2 * slower.bandwidth_gb_s)
    assert rates.peak_tflops["fp32"] == pytest.approx(2 * slower.peak_tflops["fp32"])
    shifted = own_rates([ms + 5.0 for ms in times], networks, setting)
    assert shifted.launch_overhead_us == pytest.approx(rates.launch_overhead_us)


def test_a_file_s_accuracy_is_that_of_its_network(
    model: Path, digits: Data, tmp_path: Path
) -> None:
    (check,) = ns.verify_exports(model, digits, seconds=0.1, out=tmp_path / "checks")
    assert isinstance(check, ModelCheck)
    test = in_memory(digits.test())
    with torch.no_grad():
        found = NETWORK(digits.inputs(test.images, 8)).argmax(1)
    assert check.accuracy.num_images == len(test)
    assert check.accuracy.value == pytest.approx(float((found == test.labels).float().mean()))
    assert check.broken == ()
    written = json.loads((tmp_path / "checks" / "mine" / "verify.json").read_text())
    assert written["test_accuracy"]["value"] == check.accuracy.value


def test_what_was_found_of_a_file_is_a_table(model: Path, nassearch: CommandLine) -> None:
    answer = nassearch("verify", model, "--data", "digits")
    assert answer.code == 0, answer.err
    assert re.search(r"test_accuracy +\d+\.\d+%", answer.out)
    assert re.search(r"latency_ms +\d", answer.out)


class OneIfDark(nn.Module):
    """Says "1" where an image's mean is below zero as it comes in, "0" where not."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((1, 2, 3)).unsqueeze(1)
        return torch.cat([mean, -mean, torch.full_like(mean, -1e9).expand(-1, 8)], 1)


@pytest.mark.parametrize(("mean", "says"), [(-1.0, 0), (2.0, 1)])
def test_images_are_prepared_as_the_user_says(
    tmp_path: Path, digits: Data, nassearch: CommandLine, mean: float, says: int
) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(to_onnx(OneIfDark(), (1, 8, 8), batch=None))
    said = f"{{mean: [{mean}], std: [0.01]}}"
    answer = nassearch("verify", path, "--data", "digits", "--preprocessing", said, "--json")
    assert answer.code == 0, answer.err
    labels = in_memory(digits.test()).labels
    share = float((labels == says).float().mean())
    assert answer.json()["test_accuracy"]["value"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("shape", "classes", "options", "line"),
    [
        ((3, 8, 8), 10, ("--data", "digits"), "has images of 1 channels, the network takes 3"),
        ((1, 8, 8), 7, ("--data", "digits"), "holds 10 classes, the network tells 7 apart"),
        ((1, 8, 12), 10, ("--data", "digits"), "takes images of 8 x 12 pixels"),
        ((1, 8, 8), 10, (), "says nothing of the images it knows"),
        ((1, 8, 8), 10, ("--data", "digits", "--device", "zen4"), "'zen4' is not this machine"),
        ((1, 8, 8), 10, ("--data", "digits", "--preprocessing", "{a: 1}"), "preprocessing"),
        ((1, 8, 8), 10, ("--data", "digits", "--preprocessing", "{"), "--preprocessing"),
    ],
)
def test_what_cannot_be_verified_is_one_line(
    nassearch: CommandLine,
    tmp_path: Path,
    shape: tuple[int, int, int],
    classes: int,
    options: tuple[str, ...],
    line: str,
) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))
    path = tmp_path / "mine.onnx"
    path.write_bytes(to_onnx(flat, shape))
    answer = nassearch("verify", path, *options)
    assert answer.code == 2
    assert line in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--runtime", "torch"), "takes no ONNX file"),
        (("--precision", "int8"), "computes in fp32, not in int8"),
        (("--device", "nowhere"), "unknown device 'nowhere'"),
    ],
)
def test_where_a_file_cannot_run_is_one_line(
    model: Path, nassearch: CommandLine, options: tuple[str, ...], line: str
) -> None:
    device = () if "--device" in options else ("--device", "host")
    answer = nassearch("predict", model, *device, *options)
    assert answer.code == 2
    assert line in answer.err
    assert answer.err.count("\n") == 1


def test_an_export_says_its_preprocessing_itself(run: Path) -> None:
    export = next((run / "exports").iterdir())
    with pytest.raises(NassearchError, match="says itself how it takes its images"):
        ns.verify_exports(export, preprocessing="imagenet")


# -- beside a front --------------------------------------------------------------------------------


def test_networks_of_the_front_that_beat_it_are_named_and_it_is_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    record = read_run(run)
    (search,) = record.searches
    (name, setting), *_ = search.settings.items()
    front = search.past.front
    slowest = max(front, key=lambda item: item.values[name].value)
    ms, accuracy = slowest.values[name].value, slowest.values["accuracy"].value
    beside = Beside("mine<b>.onnx", {setting: 1.01 * ms}, {}, measured(accuracy - 0.001))
    beaten = beside.beaten_by(search, name)
    assert slowest.architecture.id in beaten
    every = {
        item.architecture.id
        for item in front
        if item.values["accuracy"].value >= beside.accuracy.value  # type: ignore[union-attr]
    }
    assert set(beaten) == every
    text = write_report(run, out=tmp_path / "page.html", beside=beside).read_text()
    assert beaten[0] in text
    assert "mine<b>" not in text
    (star,) = [
        trace
        for view in document_of(text)["views"]
        for trace in view["figure"]["data"]
        if trace.get("marker", {}).get("symbol") == "star"
    ]
    assert star["y"] == pytest.approx([100 * (accuracy - 0.001)])
    better = Beside("mine.onnx", {setting: 0.5 * ms}, {}, measured(0.9999))
    assert better.beaten_by(search, name) == []
    assert "no network of the front" in better.lines(record)[0]


def test_what_is_not_known_of_it_is_said(tmp_path: Path) -> None:
    record = read_run(make_run(tmp_path / "run"))
    (setting,) = record.searches[0].settings.values()
    unknown = Beside("mine.onnx", {setting: 1.0}, {})
    assert "without images its accuracy is not known" in unknown.lines(record)[0]
    unmeasured = Beside("mine.onnx", {}, {setting: "it is asleep"}, measured(0.5))
    assert unmeasured.lines(record) == [f"mine.onnx on {setting}: it is asleep"]


def test_it_is_estimated_where_the_candidates_are(model: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", devices=("a100",))
    found = measure_beside(model, run)
    (setting,) = read_run(run).searches[0].settings.values()
    assert found.latency_ms == {setting: ns.predict_latency(model, "a100")["latency_ms"]}
    assert found.accuracy is None


def test_it_is_measured_at_the_table_s_speed(
    model: Path, run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    record = replace(read_run(run), path=tmp_path)
    assert record.space is not None
    found = []
    for times in (0.1, 1.0):  # the same machine, had it been ten times slower
        table = table_of(record.space, times)
        table.save(tmp_path / "latency_tables")
        found.append(latency_ms(read_classifier(model), record, table.setting, seconds=0.3))
    assert 3 < found[1] / found[0] < 30
    answer = nassearch("report", run, "--beside", model, "--out", tmp_path / "page.html", "--json")
    assert answer.code == 0, answer.err
    text = (tmp_path / "page.html").read_text()
    assert re.search(r"mine\.onnx on box/fake-fp32-b1-t1: the runtime fake takes no ONNX", text)


def table_of(space: SearchSpace, ms: float) -> LatencyTable:
    """A table of this machine in which every network takes so long."""
    block, row = Measurement(0.01, 0.01, 0.01, 10), Measurement(ms, ms, ms, 10)
    return LatencyTable(
        Setting("host", "onnxruntime"),
        {spec.key: block for spec in block_specs(space)},
        tuple(MeasuredNetwork.of(space, item, row) for item in reference_networks(space)),
    )


def measured(accuracy: float) -> Accuracy:
    return Accuracy(accuracy, "val", 1000, (accuracy - 0.01, accuracy + 0.01))


def document_of(page: str) -> Any:
    match = re.search(r'id="document">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match.group(1))
