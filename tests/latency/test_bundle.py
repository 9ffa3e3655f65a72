"""Bundles: what a device without torch measures becomes the table here."""

import json
import os
import stat
import subprocess
import venv
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from nassearch.errors import NassearchError, TableError
from nassearch.latency.host_identity import this_machine
from nassearch.latency.importing import bundle as bundle_files
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
    assert done.stderr.splitlines()[-1].strip() == (
        "nassearch profile --device pi4 --runtime onnxruntime --precision fp32 --batch 1"
        " --threads 1 --import results.json"
    )
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
    if isinstance(content, dict):
        del content["digest"]
        content["schema"] = 2  # of version 0.1, whose results carry no hash
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


def _changed(results: Path, tmp_path: Path, *keys: str, value: object, sign: bool) -> Path:
    """A copy of the results in which what `keys` lead to is another `value`."""
    content = json.loads(results.read_text(encoding="utf-8"))
    inner = content
    for key in keys[:-1]:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[int(keys[-1]) if isinstance(inner, list) else keys[-1]] = value
    if sign:
        content["digest"] = bundle_runner.digest(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("keys", ["whole/rounds/0/0/0", "trace/rounds/0/0/0", "version"])
def test_changed_results_are_refused(results: Path, tmp_path: Path, keys: str) -> None:
    path = _changed(results, tmp_path, *keys.split("/"), value=0.001, sign=False)
    with pytest.raises(TableError, match="was changed"):
        import_results(path, SETTING)


def test_facts_of_the_device_do_not_override_the_header(results: Path, tmp_path: Path) -> None:
    facts = {"schema": 9, "noise_floor": 0.0, "device": "x", "cores": 4, "host": "a board"}
    table = import_results(_changed(results, tmp_path, "facts", value=facts, sign=True), SETTING)
    assert table.facts["cores"] == 4
    assert table.facts["host"] == "a board"
    assert table.facts["noise_floor"] == import_results(results, SETTING).facts["noise_floor"]
    assert not {"schema", "device"} & set(table.facts)


def test_a_bundle_s_table_knows_the_machine_that_was_measured(results: Path) -> None:
    assert import_results(results, SETTING).identity == this_machine()


@pytest.mark.parametrize("value", [0.0, -1.0, None, "fast"])
def test_times_that_are_none_are_refused(results: Path, tmp_path: Path, value: object) -> None:
    path = _changed(results, tmp_path, *["whole", "rounds", "0", "0", "0"], value=value, sign=True)
    with pytest.raises(TableError, match="damaged"):
        import_results(path, SETTING)


def test_what_ran_on_another_provider_is_refused(results: Path, tmp_path: Path) -> None:
    path = _changed(results, tmp_path, "provider", value="CUDAExecutionProvider", sign=True)
    with pytest.raises(TableError, match="ran on CUDAExecutionProvider"):
        import_results(path, SETTING)


@pytest.mark.parametrize("runtime", ["openvino", "torch", "fake", "tflite"])
def test_a_bundle_of_another_engine_is_refused(
    tiny: SearchSpace, tmp_path: Path, runtime: str
) -> None:
    with pytest.raises(NassearchError, match=r"runs ONNX Runtime|unknown runtime"):
        write_bundle(
            tmp_path / "b.zip",
            tiny,
            Setting("gpu", runtime),
            rng=np.random.default_rng(0),
            seconds=1,
        )
    assert not list(tmp_path.iterdir())


def test_a_gpu_s_bundle_never_times_the_cpu(
    tiny: SearchSpace, tmp_path: Path, bare_python: Path
) -> None:
    setting = Setting("gpu", "cuda", threads=None)
    path = write_bundle(
        tmp_path / "gpu.zip", tiny, setting, rng=np.random.default_rng(0), seconds=0.1
    )
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "gpu")
    done = subprocess.run(
        [bare_python, "run.py"], cwd=tmp_path / "gpu", capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "has no CUDAExecutionProvider" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_runner_that_cannot_write_says_so_at_once(bundle: Path, bare_python: Path) -> None:
    folder = bundle.parent / "read-only"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    done = subprocess.run(
        [bare_python, "run.py", "--out", "/proc/results.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "cannot write /proc/results.json" in done.stderr
    assert "--out" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stranger_s_bundle_unpacks_nothing_and_is_bounded(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../evil", "x")
        archive.writestr("/tmp/nassearch-evil", "x")
        archive.writestr("bundle.json", b" " * (bundle_files.MAX_MANIFEST + 1))
    assert path.stat().st_size < 2**20
    with pytest.raises(TableError, match="larger than 64 MB"):
        import_results(results, SETTING, bundle=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bomb.zip"]
    assert not Path("/tmp/nassearch-evil").exists()


def test_results_without_bound_are_refused(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_files, "MAX_RESULTS", 100)
    with pytest.raises(TableError, match="is larger than"):
        import_results(results, SETTING)


def test_a_run_does_not_go_on_from_changed_results(results: Path, tmp_path: Path) -> None:
    path = _changed(results, tmp_path, *["whole", "rounds", "0", "0", "0"], value=9.0, sign=False)
    bundle = json.loads(path.read_text(encoding="utf-8"))["bundle"]
    with pytest.raises(SystemExit, match="was changed"):
        bundle_runner.read(path, bundle)


def test_what_is_no_bundle_is_refused(results: Path) -> None:
    with pytest.raises(TableError, match="not a bundle"):
        import_results(results, SETTING, bundle=results)


@pytest.mark.parametrize("kind", ["link", "damaged", "encrypted", "nested"])
def test_a_stranger_s_bundle_leads_nowhere_and_is_one_line(
    results: Path, tmp_path: Path, kind: str
) -> None:
    manifest = zipfile.ZipInfo("bundle.json")
    manifest.compress_type = zipfile.ZIP_DEFLATED
    content = json.dumps({"id": "a" * 12})
    if kind == "link":  # to the manifest of these very results: it must not be followed
        (tmp_path / "real.json").write_text(results.read_text(encoding="utf-8"), encoding="utf-8")
        manifest.external_attr = (stat.S_IFLNK | 0o777) << 16
        content = str(tmp_path / "real.json")
    elif kind == "nested":
        content = "[" * 100_000
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(manifest, content)
    data = bytearray(path.read_bytes())
    if kind == "damaged":
        data[50:54] = b"\xff\xff\xff\xff"
    elif kind == "encrypted":
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(TableError, match="is not a bundle") as caught:
        import_results(results, SETTING, bundle=path)
    assert "\n" not in str(caught.value)


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
