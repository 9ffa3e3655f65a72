"""Bundles: what a device without torch measures becomes the table here."""

import json
import os
import subprocess
import venv
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from nassearch.errors import TableError
from nassearch.latency.importing.bundle import import_results, write_bundle
from nassearch.latency.predictor import LatencyPredictor
from nassearch.runtimes import bundle_runner
from nassearch.setting import Setting
from nassearch.space import SearchSpace, block_specs

SETTING = Setting("pi4", "onnxruntime", "fp32", 1, 1)


@pytest.fixture(scope="module")
def tiny() -> SearchSpace:
    stage = {"op": "mbconv", "width": 8, "depth": [1, 2], "stride": 2, "kernel_size": [3, 5]}
    return SearchSpace.from_dict(
        {"name": "tiny", "resolution": 8, "stages": [{**stage, "expand_ratio": 2}]}
    )


@pytest.fixture(scope="module")
def bundle(tiny: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "pi4.zip"
    return write_bundle(path, tiny, SETTING, rng=np.random.default_rng(0), seconds=0.2)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that holds numpy and onnxruntime and nothing else."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    for module in (np, onnxruntime):
        home = Path(str(module.__file__)).parent
        for place in (home, home.with_name(f"{home.name}.libs")):
            if place.is_dir():
                (packages / place.name).symlink_to(place)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def results(bundle: Path, bare_python: Path) -> Path:
    """What the runner writes, run as on a device."""
    folder = bundle.parent / "unpacked"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    alone = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    for name in ("torch", "nassearch", "pandas", "onnx", "yaml"):
        found = subprocess.run(
            [bare_python, "-c", f"import {name}"],
            cwd=folder,
            env=alone,
            capture_output=True,
            check=False,
        )
        assert found.returncode != 0, f"{name} is in the bare environment"
    done = subprocess.run(
        [bare_python, "run.py"],
        cwd=folder,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nassearch profile --device pi4 --import results.json" in done.stderr
    return folder / "results.json"


def test_results_become_a_table_that_predicts(
    tiny: SearchSpace, bundle: Path, results: Path
) -> None:
    table = import_results(results, SETTING, bundle=bundle)
    table.require_space(tiny, block_specs(tiny))
    assert {m.source for m in table.blocks.values()} == {"measured"}
    assert table.facts["version"].startswith("onnxruntime")
    assert "bundle" in table.facts
    predictor = LatencyPredictor.from_table(table, tiny)
    assert (predictor.predict([tiny.smallest, tiny.largest]) > 0).all()


def test_results_of_another_bundle_are_refused(
    tiny: SearchSpace, results: Path, tmp_path: Path
) -> None:
    other = write_bundle(
        tmp_path / "b.zip", tiny, SETTING, rng=np.random.default_rng(0), seconds=9.0
    )
    with pytest.raises(TableError, match="is of the bundle"):
        import_results(results, SETTING, bundle=other)


def test_results_of_another_setting_are_refused(results: Path) -> None:
    with pytest.raises(TableError, match="was measured in pi4/onnxruntime-fp32-b1-t1"):
        import_results(results, Setting("pi4", "onnxruntime", "fp32", 1, 4))


@pytest.mark.parametrize("broken", ["unfinished", "foreign", "damaged", "changed"])
def test_results_that_cannot_be_used_are_refused(
    results: Path, tmp_path: Path, broken: str
) -> None:
    content = json.loads(results.read_text(encoding="utf-8"))
    if broken == "unfinished":
        del content["trace"]
    elif broken == "damaged":
        content["trace"]["block_ms"][0] = content["trace"]["block_ms"][0][:3]
    elif broken == "changed":
        content["manifest"]["networks"][0]["genes"][0] += 1
    else:
        content = ["something else"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    message = {
        "unfinished": "unfinished",
        "damaged": "damaged",
        "foreign": "runner writes",
        "changed": "manifest is not",
    }
    with pytest.raises(TableError, match=message[broken]):
        import_results(path, SETTING)


def test_what_is_no_bundle_is_refused(results: Path) -> None:
    with pytest.raises(TableError, match="not a bundle"):
        import_results(results, SETTING, bundle=results)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    bundle_runner.write(path, {"bundle": "a", "whole": {"rounds": [1]}})
    assert bundle_runner.read(path, "a")["whole"] == {"rounds": [1]}
    assert bundle_runner.read(path, "b") == {}
    assert bundle_runner.read(tmp_path / "none.json", "a") == {}


def test_what_makes_figures_uncertain_is_named() -> None:
    facts = {"cores": 2, "governor": "ondemand", "temperature_mc": "80000"}
    found = " ".join(bundle_runner.warnings(facts, 4))
    for word in ("ondemand", "4 threads on 2 cores", "throttle"):
        assert word in found
    assert not bundle_runner.warnings({"cores": 4}, 1)
