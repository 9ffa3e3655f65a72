"""The quickstart itself, on this machine's CPU, and what comes out of it."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import nassearch as ns
from nassearch.export import FORMATS
from nassearch.export.verification import TOLERANCE
from nassearch.networks.supernet import resize
from tests.pipeline.conftest import CommandLine
from tests.pipeline.test_export import elsewhere, here


def right(export: Path) -> npt.NDArray[np.float64]:
    """Whether an exported network is right about each test image, 0 or 1."""
    data, network = ns.load_data("digits"), ns.load(export)
    test = data.test()
    images = resize(data.normalise(test.images), network.input_shape[-1])
    with torch.inference_mode():
        return (network(images).argmax(1) == test.labels).numpy().astype(np.float64)


def test_its_networks_run_anywhere_and_keep_what_they_promise(
    tmp_path: Path, nassearch: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = nassearch("quickstart", "--out", "run", "--json")
    told = answer.json()
    networks = told["networks"]
    assert len(networks) == 3, "one for each budget"
    broken = [line for network in networks for line in network["broken"]]
    assert answer.code == (3 if broken else 0)
    # a machine that is busy now may be slower than it was; nothing else may be broken
    assert all("over the budget" in line or "cannot be checked" in line for line in broken), broken
    for network in networks:
        assert network["largest_difference"] <= TOLERANCE
    assert len({network["directory"] for network in networks}) == 3, "each budget picks its own"
    assert networks[-1]["test_accuracy"]["onnx"]["value"] > 0.9
    fast, large = (right(Path(networks[number]["directory"])) for number in (0, -1))
    gain = large - fast
    assert gain.mean() > 1.645 * gain.std() / len(gain) ** 0.5, "a larger budget pays, at 90 %"
    assert (tmp_path / "run" / "report.html").stat().st_size < 6_000_000

    order = ("--pick", "knee", "--format", ",".join(FORMATS), "--batch", "dynamic")
    written = nassearch("export", "run", *order, "--out", "delivery", "--json")
    assert written.code == 0, written.err
    (export,) = map(Path, written.json()["exports"])
    nassearch("verify", export)
    found = json.loads((export / "verify.json").read_text())
    assert set(found["formats"]) == set(FORMATS)
    assert found["largest_difference"] <= TOLERANCE
    exact = found["test_accuracy"]["weights"]["value"]
    assert found["test_accuracy"]["int8"]["value"] >= exact - 0.02
    for name in ("onnx", "int8", "pt2"):
        assert elsewhere(export, name) == pytest.approx(here(export, name), abs=1e-5)
