"""`profile --import`: what was measured elsewhere becomes a table like any other."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import nassearch as ns
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.table import LatencyTable
from nassearch.setting import Setting
from nassearch.space import SearchSpace
from tests.pipeline.conftest import CommandLine

MBCONV = (
    "expanded_conv-input:{r}x{r}x40-output:{r}x{r}x40-expand:160-kernel:5-stride:1"
    "-idskip:1-se:1-hs:1"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_of_once_for_all_tables_is_imported(nassearch: CommandLine, here: Path) -> None:
    for pixels, ms in ((16, 1.25), (20, 1.75)):
        entry = {MBCONV.format(r=pixels): {"mean": ms, "std": 0.01, "count": 100}}
        (here / "lut").mkdir(exist_ok=True)
        (here / "lut" / f"{pixels}.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")
    answer = nassearch("profile", "--device", "note", "--import", here / "lut", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["blocks"] == 2
    table = LatencyTable.load(
        Path(answer.json()["table"]), Setting("note", "onnxruntime", "fp32", 1, 1)
    )
    assert table["mbconv-i40-o40-k5-e4-s1-se-hswish-r20"].median_ms == 1.75


SPACE = """
name: small
resolution: 32
stem: {op: conv, width: 8, kernel_size: 3, stride: 2}
stages:
  - {op: mbconv, width: 8, depth: [2, 3, 4], stride: 2, kernel_size: [3, 5], expand_ratio: [3, 4]}
num_classes: 10
head: {expand_width: 32}
"""


def _networks(path: Path, *, scale: float = 1.0) -> Path:
    """Networks of the space above, at resolutions that it does not offer."""
    path.with_name("small.yaml").write_text(SPACE, encoding="utf-8")
    rows = []
    for number, resolution in enumerate((28, 32, 36, 40, 44, 48, 52, 56)):
        kernels = "-".join(str((3, 5)[(number + place) % 2]) for place in range(4))
        ratios = "-".join(str((3, 4)[(number // 2 + place) % 2]) for place in range(4))
        rows.append((resolution, kernels, ratios, str(2 + number % 3), scale * resolution**2 / 500))
    names = ["resolution", "ks20", "expand20", "depth5", "ms"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    return path


def test_whole_networks_alone_make_a_device_that_predicts(
    nassearch: CommandLine, here: Path
) -> None:
    path = _networks(here / "networks.csv")
    imported = nassearch(
        "profile", "--device", "phone", "--space", "small.yaml", "--import", path, "--json"
    )
    assert imported.code == 0, imported.err
    assert imported.json()["networks"] == 8
    table = LatencyTable.load(
        Path(imported.json()["table"]), Setting("phone", "onnxruntime", "fp32", 1, 1)
    )
    space = SearchSpace.load("small.yaml")
    measured = table.pairs(space)
    assert [a.resolution for _, a, _ in measured] == [28, 32, 36, 40, 44, 48, 52, 56]
    predictor = LatencyPredictor.from_table(table, space)
    low, high = predictor.interval([space.largest])
    assert low[0] < predictor.predict([space.largest])[0] < high[0]
    assert 1 < predictor.predict([space.largest])[0] < 4


def test_what_cannot_be_imported_is_refused_in_one_line(nassearch: CommandLine, here: Path) -> None:
    path = _networks(here / "networks.csv")
    seconds = _networks(here / "seconds.csv", scale=1e-3)
    two = pd.read_csv(path).assign(other=1.0)
    two.to_csv(here / "two.csv", index=False)
    slipped = pd.read_csv(path)
    slipped.loc[3, "ms"] /= 1000
    slipped.to_csv(here / "slipped.csv", index=False)
    (here / "notes.txt").write_text("5 ms", encoding="utf-8")
    space = ("--space", "small.yaml")
    for file, more, message in (
        (seconds, space, "row 1 and the rows after it"),
        (here / "slipped.csv", space, "row 4"),
        (here / "two.csv", space, "--column ms or other"),
        (here / "notes.txt", (), "results.json"),
    ):
        answer = nassearch("profile", "--device", "phone", *more, "--import", file)
        assert answer.code == 2
        assert len(answer.err.strip().splitlines()) == 1
        assert message in answer.err
    assert not (here / "latency_tables").exists()


def _page_block(language: str, begins: str) -> str:
    """The block of code on docs/devices.md that begins so."""
    page = Path(ns.__file__).parents[1] / "docs" / "devices.md"
    blocks = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    [found] = [block for block in blocks if block.startswith(begins)]
    return str(found)


def test_networks_of_a_space_of_one_s_own_are_imported_as_the_page_shows(
    nassearch: CommandLine, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FBNet's space with its ops, and made-up times: a launch a block, and its work."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (here / "fbnet_ops.py").write_text(_page_block("python", "from torch import Tensor, nn"))
    (here / "fbnet.yaml").write_text(_page_block("yaml", "name: fbnet"))
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 9, (40, 22))
    work = np.array([2, 1, 4, 7, 2, 1, 4, 8, 0])[numbers].sum(axis=1)
    frame = pd.DataFrame({"blocks": ["-".join(map(str, row)) for row in numbers]})
    frame.assign(gpu_1=3 + 0.05 * work, phone=20 + work).to_csv("subnets.csv", index=False)
    command = ("profile", "--space", "fbnet.yaml", "--import", "subnets.csv", "--json")
    refused = nassearch(*command, "--device", "gpu", "--runtime", "torch")
    assert "--column gpu_1 or phone" in refused.err
    told = nassearch(*command, "--device", "gpu", "--runtime", "torch", "--column", "gpu_1")
    assert told.code == 0, told.err
    assert told.json()["table"] == "latency_tables/gpu/torch-fp32-b1.csv"
    assert told.json()["networks"] == 40
    space = ns.load_space("fbnet.yaml")
    assert space.size() == 9**22
    assert {block.op for stage in space.smallest.stages for block in stage.blocks} == {
        "fbnet_ops:Skip"
    }
    table = LatencyTable.load(Path(told.json()["table"]), Setting("gpu", "torch", threads=None))
    predictor = LatencyPredictor.from_table(table, space)
    low, high = predictor.predict([space.smallest, space.largest])
    assert 2.5 < low < 5 < 9 < high < 14


@pytest.mark.parametrize(
    ("runtime", "more", "stem"),
    [
        ("torch", (), "torch-fp32-b1"),  # on a GPU, or not: nobody said
        ("tensorrt", (), "tensorrt-fp32-b1"),
        ("tflite", (), "tflite-fp32-b1"),
        ("torch", ("--threads", 2), "torch-fp32-b1-t2"),
        ("onnxruntime", (), "onnxruntime-fp32-b1-t1"),
    ],
)
def test_threads_are_named_where_somebody_chose_them(
    nassearch: CommandLine, here: Path, runtime: str, more: tuple[object, ...], stem: str
) -> None:
    path = _networks(here / "networks.csv", scale=0.1)
    command = ("profile", "--device", "box", "--space", "small.yaml", "--import", path, "--json")
    for _ in range(2):  # the second time the device is known
        told = nassearch(*command, "--runtime", runtime, *more)
        assert told.code == 0, told.err
        assert told.json()["table"] == f"latency_tables/box/{stem}.csv"
