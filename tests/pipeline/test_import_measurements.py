"""`profile --import`: what was measured elsewhere becomes a table like any other."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

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
