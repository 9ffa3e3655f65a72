"""Profiling: what an interruption keeps, whose runtime it is, and what is never overwritten."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nassearch.errors import NassearchError, OutputError, RuntimeUnavailableError, TableError
from nassearch.files import owned
from nassearch.latency.device import host_device, load_device, resolve_setting
from nassearch.latency.table import LatencyTable
from nassearch.latency.target import load_target
from nassearch.pipeline.import_measurements import import_measurements
from nassearch.pipeline.profile import oversubscribed, profile_device
from nassearch.runtimes.fake import FakeRuntime
from nassearch.setting import Setting
from nassearch.space import SearchSpace, block_specs
from tests.pipeline.conftest import CommandLine

SETTING = Setting("box", "fake")


class OwnRuntime(FakeRuntime):
    """A user's runtime."""


class SlowRuntime(FakeRuntime):
    """A user's runtime that cannot time blocks."""

    profiles_blocks = False


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.load("digits_tiny")


def _interrupt(stage: str, calls: int) -> Callable[..., None]:
    """A watcher that presses Ctrl-C once, in the so-manieth call of a stage."""
    count = 0

    def watch(name: str, fraction: float, note: str = "") -> None:
        nonlocal count
        count += name == stage
        if name == stage and count == calls:
            os.kill(os.getpid(), signal.SIGINT)

    return watch


def test_an_interrupted_profile_keeps_what_its_rounds_tell(
    space: SearchSpace, tmp_path: Path
) -> None:
    device = host_device().called("box")
    with pytest.raises(KeyboardInterrupt) as caught:
        profile_device(
            space,
            SETTING,
            tmp_path,
            device=device,
            seconds=60,
            target_error=1e-9,
            progress=_interrupt("timing", 8),
        )
    table = LatencyTable.load(tmp_path / "box" / "fake-fp32-b1-t1.csv")
    specs = block_specs(space)
    measured = sum(spec.key in table.blocks for spec in specs)
    assert measured > 0.5 * len(specs)
    assert f"{measured} of {len(specs)} blocks are saved" in str(caught.value)
    assert table.facts["stopped"] == "interrupted"
    again, setting = resolve_setting("box", places=[tmp_path])
    assert load_target(space, again, setting, places=[tmp_path]).is_here


@pytest.mark.parametrize("stage", ["loading", "timing"])
def test_an_interruption_before_anything_is_known_says_so(
    space: SearchSpace, tmp_path: Path, stage: str
) -> None:
    with pytest.raises(KeyboardInterrupt, match="nothing is saved"):
        profile_device(space, SETTING, tmp_path, seconds=60, progress=_interrupt(stage, 2))
    assert not list(tmp_path.rglob("*.*"))


def test_a_device_that_is_being_profiled_is_not_profiled_again(
    space: SearchSpace, tmp_path: Path
) -> None:
    with (
        owned(tmp_path / "box", doing="profile"),
        pytest.raises(OutputError, match=r"box: a profile runs here \(process"),
    ):
        profile_device(space, SETTING, tmp_path, seconds=0.01, max_networks=5)
    assert not list(tmp_path.rglob("*"))


def test_imports_at_once_lose_no_row(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.yaml" for number in range(8)]
    for number, path in enumerate(paths):
        size = 160 + 2 * number
        key = f"Conv-input:{size}x{size}x3-output:{size // 2}x{size // 2}x24"
        path.write_text(f"{key}: {{mean: 0.5, std: 0.01, count: 10}}\n")
    tables = tmp_path / "tables"
    setting = Setting("phone", "tflite")
    with ThreadPoolExecutor(4) as threads:  # each has a lock of its own, as processes have
        list(threads.map(lambda path: import_measurements(path, setting, tables), paths))
    assert len(LatencyTable.load(tables / "phone" / "tflite-fp32-b1-t1.csv").blocks) == 8


def test_a_user_s_runtime_is_measured_like_one_that_ships(
    space: SearchSpace, tmp_path: Path
) -> None:
    setting = Setting("box", "tests.pipeline.test_profile:OwnRuntime")
    device = host_device().called("box")
    table = profile_device(space, setting, tmp_path, device=device, seconds=0.01, max_networks=5)
    assert table.path(tmp_path).name == "tests.pipeline.test_profile@OwnRuntime-fp32-b1-t1.csv"
    target = load_target(space, device, setting, places=[tmp_path])
    assert target.table is not None
    assert target.is_here, target.reason_unmeasured


def test_a_runtime_that_cannot_time_blocks_is_refused(space: SearchSpace, tmp_path: Path) -> None:
    setting = Setting("box", "tests.pipeline.test_profile:SlowRuntime")
    with pytest.raises(RuntimeUnavailableError, match="cannot time blocks"):
        profile_device(space, setting, tmp_path / "tables", seconds=1)
    assert not (tmp_path / "tables").exists()


def test_a_device_that_is_another_machine_is_not_profiled_here(
    space: SearchSpace, tmp_path: Path
) -> None:
    other = load_device("zen4").model_copy(update={"cpu": "nobody/1/2"})
    with pytest.raises(TableError, match="nobody/1/2"):
        profile_device(
            space, replace(SETTING, device="zen4"), tmp_path / "t", device=other, seconds=1
        )
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("runtime", "precision", "message"),
    [("pytorch", "fp32", "did you mean torch"), ("onnxruntime", "fp16", "fp32 or int8")],
)
def test_what_does_not_exist_is_refused_before_anything_is_written(
    space: SearchSpace, tmp_path: Path, runtime: str, precision: str, message: str
) -> None:
    with pytest.raises(NassearchError, match=message):
        profile_device(space, Setting("box", runtime, precision), tmp_path / "t", seconds=1)
    assert not (tmp_path / "t").exists()


def test_more_threads_than_cores_are_said_to_be_oversubscribed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert "64 threads on 2 cores" in str(oversubscribed(replace(SETTING, threads=64)))
    assert oversubscribed(replace(SETTING, threads=2)) is None
    assert oversubscribed(replace(SETTING, threads=None)) is None


def _entry(pixels: int, **figures: float) -> str:
    key = f"Conv-input:{2 * pixels}x{2 * pixels}x3-output:{pixels}x{pixels}x24"
    return yaml.safe_dump({key: {"mean": 0.5, "count": 10, **figures}})


@pytest.mark.parametrize("spread", [float("nan"), -0.1])
def test_a_bad_import_leaves_a_good_table_as_it_was(
    nassearch: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spread: float,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(_entry(80, std=0.01), encoding="utf-8")
    Path("bad.yaml").write_text(_entry(82, std=spread), encoding="utf-8")
    command = ("profile", "--device", "note10", "--runtime", "tflite", "--import")
    assert nassearch(*command, "good.yaml").code == 0
    before = {path: path.read_bytes() for path in Path("latency_tables").rglob("*.*")}
    answer = nassearch(*command, "bad.yaml")
    assert answer.code == 2
    assert "bad.yaml: Conv-input:164" in answer.err
    assert {path: path.read_bytes() for path in Path("latency_tables").rglob("*.*")} == before
    again = nassearch(*command, "good.yaml")
    assert again.code == 0
    assert "unknown" in again.out, "nobody knows the noise floor of imported figures"


@pytest.mark.parametrize("name", ["../evil", "", "a,b"])
def test_a_device_s_name_leads_nowhere_else(
    nassearch: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("--space", "digits_tiny", "--runtime", "fake", "--seconds", 1, "--out", "lt")
    answer = nassearch("profile", "--device", name, *command)
    assert answer.code == 2
    assert "cannot be called" in answer.err
    assert not list(tmp_path.iterdir())
