"""What the user's own lines promise, on real digits and a fake device."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

import nassearch as package
from nassearch.networks import Subnet
from nassearch.search.journal import latest_search
from nassearch.space import Architecture, SearchSpace, block_specs, lower
from nassearch.training import checkpoint
from tests.pipeline.conftest import CommandLine


def exports(run: Path) -> list[Path]:
    return sorted((run / "exports").iterdir())


def journal(out: Path) -> list[dict[str, Any]]:
    """The candidates of the search that ended last under `out`."""
    text = (latest_search(out) / "candidates.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_leaves_every_file_the_design_names(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    expected = {"recipe.yaml", "metrics.jsonl", "checkpoints", "search", "exports", "report.html"}
    assert expected | {"environment.json"} <= names
    assert (run.parent / "latest").resolve() == run.resolve()
    for export in exports(run):
        assert {path.name for path in export.iterdir()} == {
            "config.yaml",
            "model.safetensors",
            "model.onnx",
            "README.md",
            "verify.json",
        }


def test_every_exported_network_is_measured_within_its_budget(run: Path) -> None:
    for export in exports(run):
        for item in json.loads((export / "verify.json").read_text())["latency"]:
            assert item["measured_ms"] <= item["budget_ms"]
            assert item["source"] == "measured"


def test_verify_reports_test_accuracy_of_every_format_and_their_agreement(run: Path) -> None:
    found = json.loads((exports(run)[0] / "verify.json").read_text())
    assert set(found["test_accuracy"]) == {"weights", "onnx"}
    assert found["test_accuracy"]["weights"]["num_images"] == 360
    assert found["largest_difference"] < 1e-4


def test_a_loaded_export_is_the_recalibrated_subnet_of_the_supernet(run: Path) -> None:
    export = exports(run)[0]
    network = package.load(export)
    assert isinstance(network, Subnet)
    assert not network.training
    content = yaml.safe_load((export / "config.yaml").read_text())
    architecture = Architecture.from_dict(content["architecture"])
    supernet = checkpoint.load_supernet(run)
    extracted = supernet.extract(architecture)
    assert network.specs == lower(supernet.space, architecture)
    for (name, loaded), shared in zip(
        network.named_parameters(), extracted.parameters(), strict=True
    ):
        assert torch.equal(loaded, shared), name


def test_the_exported_graph_runs_without_the_package(run: Path) -> None:
    export = exports(run)[0]
    images = np.random.default_rng(0).standard_normal((1, 1, 8, 8), dtype=np.float32)
    session = onnxruntime.InferenceSession(export / "model.onnx")
    (logits,) = session.run(None, {"images": images})
    with torch.inference_mode():
        expected = package.load(export)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_users_own_lines_work_after_a_run(run: Path, nassearch: CommandLine) -> None:
    found = nassearch("search", "--device", "a100", "--budget", "5ms", "--trials", 3)
    assert found.code == 0, found.err
    assert "estimated" in found.out
    assert "a100/tensorrt-fp16-b1" in found.out
    written = nassearch("export", "--json", "--out", run / "chosen")
    assert written.code == 0, written.err
    (directory,) = written.json()["exports"]
    assert isinstance(package.load(directory), torch.nn.Module)
    readme = (Path(directory) / "README.md").read_text()
    assert "estimated" in readme


def test_budgets_of_several_kinds_hold_together(run: Path, nassearch: CommandLine) -> None:
    budgets = ["--budget", "50%", "--budget", "params=60K"]
    found = nassearch("search", "--device", "box", *budgets, "--trials", 4, "--json")
    assert found.code == 0, found.err
    for candidate in found.json()["front"]:
        assert candidate["values"]["params"]["number"] <= 60_000


def test_two_devices_share_one_search(run: Path, nassearch: CommandLine) -> None:
    arguments = ["--device", "box,a100", "--budget", "5ms", "--trials", 4, "--json"]
    found = nassearch("search", *arguments)
    assert found.code == 0, found.err
    (pick,) = found.json()["picks"]
    assert [item["device"] for item in pick["latency"]] == ["box", "a100"]
    assert {"latency:box", "latency:a100"} <= set(pick["values"])


def test_later_searches_reuse_accuracies(run: Path, nassearch: CommandLine) -> None:
    arguments = ["search", "--device", "box", "--budget", "70%", "--trials", 5, "--cold"]
    arguments += ["--algorithm", "random"]
    assert nassearch(*arguments).code == 0
    known = (run / "evaluations.jsonl").read_text()
    assert nassearch(*arguments).code == 0
    assert (run / "evaluations.jsonl").read_text() == known


def test_a_later_search_starts_from_what_an_earlier_one_found(
    run: Path, nassearch: CommandLine
) -> None:
    arguments = ["search", "--device", "box", "--trials", 5, "--json", "--out", run / "warm"]
    assert nassearch(*arguments, "--budget", "70%").code == 0
    earlier = (run / "evaluations.jsonl").read_text().splitlines()
    assert nassearch(*arguments, "--budget", "90%", "--cold").code == 0
    alone = journal(run / "warm")
    assert not any(line.get("given") for line in alone)
    assert nassearch(*arguments, "--budget", "80%").code == 0
    warm = journal(run / "warm")
    given = {line["architecture"] for line in warm if line.get("given")}
    assert given and given < {json.loads(line)["architecture"] for line in earlier} | {
        line["architecture"] for line in alone
    }
    assert len(warm) == len(given) + 5


def test_json_is_the_only_thing_on_stdout(run: Path, nassearch: CommandLine) -> None:
    export = exports(run)[0]
    for command in (
        ("predict", export, "--device", "box"),
        ("verify", export),
        ("report", run),
        ("describe", "digits_tiny"),
        ("describe", export),
        ("describe", "a100"),
        ("list", "spaces"),
        ("list", "devices"),
        ("list", "ops"),
    ):
        answer = nassearch(*command, "--json")
        assert answer.code == 0, answer.err
        assert answer.json()


def test_a_prediction_comes_with_its_interval_and_provenance(
    run: Path, nassearch: CommandLine
) -> None:
    facts = nassearch("predict", exports(run)[0], "--device", "box", "--json").json()
    assert facts["low_ms"] < facts["latency_ms"] < facts["high_ms"]
    assert facts["provenance"] == "predicted from measured"
    facts = nassearch("predict", exports(run)[0], "--device", "a100", "--json").json()
    assert facts["provenance"] == "estimated"


def test_training_resumes_from_the_command_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, nassearch: CommandLine
) -> None:
    monkeypatch.chdir(workplace)
    start = ["train-supernet", "--recipe", "recipe.yaml", "--out", "runs/resumed", "--epochs", 1]
    assert nassearch(*start).code == 0
    again = nassearch("train-supernet", "--out", "runs/resumed", "--resume", "--json")
    assert again.code == 0, again.err
    assert again.json() == {"run": "runs/resumed"}


def test_the_report_is_one_file_that_needs_no_network(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "<h2>Front</h2>" in page
    assert "default-src 'none'" in page
    assert len(page) < 6_000_000


def test_a_device_without_torch_is_measured_by_a_bundle(
    run: Path, nassearch: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = ("profile", "--device", "pi", "--space", "digits_tiny")
    assert nassearch(*profile, "--bundle", "pi.zip", "--seconds", 1).code == 0
    with zipfile.ZipFile("pi.zip") as archive:
        archive.extractall("pi")
    runner = [sys.executable, "-S", "-c", RUN_WITH_NUMPY_AND_ONNXRUNTIME, *sys.path]
    subprocess.run(runner, cwd="pi", check=True, capture_output=True)
    found = nassearch(*profile, "--import", "pi/results.json", "--json")
    assert found.code == 0, found.err
    assert found.json()["blocks"] == len(block_specs(SearchSpace.load("digits_tiny")))
    export = exports(run)[0]
    facts = nassearch("predict", export, "--device", "pi", "--json").json()
    assert facts["provenance"] == "predicted from measured"


@pytest.mark.slow
def test_the_bundle_runs_in_an_environment_of_numpy_and_onnxruntime_alone(
    run: Path, nassearch: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = ("profile", "--device", "pi", "--space", "digits_tiny")
    assert nassearch(*profile, "--bundle", "pi.zip", "--seconds", 1).code == 0
    with zipfile.ZipFile("pi.zip") as archive:
        archive.extractall("pi")
    subprocess.run([sys.executable, "-m", "venv", "venv"], check=True)
    pip = subprocess.run(
        ["venv/bin/pip", "install", "--quiet", "numpy", "onnxruntime"], check=False
    )
    if pip.returncode:
        pytest.skip("no package registry to install numpy and onnxruntime from")
    subprocess.run([tmp_path / "venv/bin/python", "run.py"], cwd="pi", check=True)
    assert nassearch(*profile, "--import", "pi/results.json").code == 0


RUN_WITH_NUMPY_AND_ONNXRUNTIME = """
import runpy, sys
sys.path[:], sys.argv[:] = sys.argv[1:], ["run.py"]
for name in ("torch", "nassearch", "pandas", "onnx", "yaml"):
    sys.modules[name] = None
runpy.run_path("run.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_search_on_ray_workers_finds_the_same_accuracies(
    run: Path, nassearch: CommandLine
) -> None:
    arguments = ["search", "--device", "box", "--budget", "90%", "--trials", 4, "--json"]
    arguments += ["--algorithm", "random", "--out"]
    for name, workers in (("ray", ["--workers", 2]), ("here", [])):
        (run / "evaluations.jsonl").unlink(missing_ok=True)
        found = nassearch(*arguments, run / name, *workers)
        assert found.code == 0, found.err
    ray, here = ((run / name / "search" / "front.csv").read_text() for name in ("ray", "here"))
    assert ray == here
