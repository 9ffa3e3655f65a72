"""The page of a run, and of a run that lacks something; no browser is needed."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import plotly.offline
import pytest
import yaml

from nassearch.errors import ConfigError, NassearchError, RuntimeUnavailableError
from nassearch.latency.interval import half_width, misses
from nassearch.latency.snapshot import BlockTime, LatencySnapshot, read_snapshots
from nassearch.report import page as room
from nassearch.report.latency_chart import block_figure, heat_charts, prediction_charts
from nassearch.report.page import write_front, write_report
from nassearch.report.record import read_run
from nassearch.space import SearchSpace, block_specs, lower, slots
from tests.report.made_up_run import make_run, start_run

EVIL = "</script><img src=x onerror=alert(1)>"


def document_of(page: Path) -> Any:
    """The document that the page's script reads."""
    match = re.search(r'id="document">(.*?)</script>', page.read_text(), re.DOTALL)
    assert match is not None
    return json.loads(match.group(1))


def test_the_page_is_one_file_that_loads_nothing(page: Path) -> None:
    text = page.read_text()
    assert "default-src 'none'" in text
    assert len(text) < 6_000_000
    outside = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["'](?!#)""", outside)


def test_every_candidate_and_its_blocks_are_on_the_page(page: Path, made_up: Path) -> None:
    (run,) = document_of(page)["runs"]
    (search,) = run["searches"]
    record = read_run(made_up)
    candidates = record.searches[0].candidates
    assert search["ids"] == [candidate.architecture.id for candidate in candidates]
    for stages, candidate in zip(search["stages"], candidates, strict=True):
        assert record.space is not None
        keys = [run["blocks"][index]["key"] for stage in stages for index in stage]
        assert keys == [spec.key for spec in lower(record.space, candidate.architecture)]


def test_block_times_add_up_to_the_predicted_latency(page: Path) -> None:
    (search,) = document_of(page)["runs"][0]["searches"]
    for setting in search["settings"]:
        column = next(item for item in search["columns"] if item["name"] == setting["latency"])
        scale = {"ms": 1.0, "µs": 1e3}[column["unit"]]
        for stages, shown in zip(search["stages"], column["values"], strict=True):
            blocks = sum(setting["ms"][index] for stage in stages for index in stage)
            assert (blocks + setting["constant_ms"]) * scale == pytest.approx(shown, rel=1e-3)


def test_the_front_of_each_device_is_a_staircase_nothing_is_above(page: Path) -> None:
    content = document_of(page)
    (search,) = content["runs"][0]["searches"]
    columns = {item["name"]: np.array(item["values"]) for item in search["columns"]}
    latencies = [view for view in content["views"] if view["x"][0].startswith("latency")]
    assert [view["x"] for view in latencies] == [["latency:box"], ["latency:a100"]]
    for view in latencies:
        x, y = columns[view["x"][0]], columns[view["y"][0]]
        front = next(trace for trace in view["figure"]["data"] if trace["meta"]["kind"] == "front")
        at = front["customdata"]
        assert (np.diff(x[at]) >= 0).all()
        for index in range(len(x)):
            better = (x <= x[index]) & (y >= y[index]) & ((x < x[index]) | (y > y[index]))
            assert (index in at) == (not better.any())


def test_an_estimate_is_called_one_wherever_it_stands(page: Path) -> None:
    content = document_of(page)
    text = page.read_text()
    (search,) = content["runs"][0]["searches"]
    flags = {item["name"]: item["estimated"] for item in search["columns"]}
    assert flags == {
        "accuracy": False, "latency:box": False, "latency:a100": True,
        "macs": False, "params": False,
    }  # fmt: skip
    titles = [view["figure"]["layout"]["xaxis"]["title"]["text"] for view in content["views"]]
    assert [title for title in titles if "a100" in title] == ["latency on a100, µs (estimated)"]
    chosen = text[text.index('class="chosen"') : text.index('id="front"')]
    assert chosen.count("<mark>estimated</mark>") == 1
    blocks = [chart for chart in content["charts"]["blocks"] if "a100" in chart["label"]]
    assert all(chart["note"].startswith("Estimated") for chart in blocks)


def test_predictions_are_compared_with_networks_the_fit_had_not_seen(made_up: Path) -> None:
    (chart,) = prediction_charts(read_run(made_up))
    snapshot = read_snapshots(made_up / "search" / "feedbeef-1")[0]
    assert f"{len(snapshot.networks)} networks" in chart.note
    shown = next(trace for trace in chart.figure.data if (trace.name or "").startswith("cal"))
    ratios = np.array(shown.y) / np.array(shown.x)
    assert f"mean error {np.abs(ratios - 1).mean():.1%}" in chart.note
    # the interval is made of these very errors
    assert half_width(misses(1 - ratios)) == pytest.approx(snapshot.ratio)


def test_the_heat_map_holds_every_block_of_the_stages_once(made_up: Path) -> None:
    record = read_run(made_up)
    snapshot = record.searches[0].snapshots[0]
    chart = heat_charts(record)[0]
    keys = [cell.partition("<")[0] for row in chart.figure.data[0].customdata for cell in row]
    shown = [key for key in keys if key]
    ends = ("conv-i1", "head")
    assert sorted(shown) == sorted(key for key in snapshot.blocks if not key.startswith(ends))


@pytest.mark.parametrize("name", ["alphanet", "mixer_choice", "resnet50"])
def test_the_heat_map_fits_spaces_with_elastic_widths_and_ops(name: str) -> None:
    space = SearchSpace.load(name)
    blocks = {spec.key: BlockTime(ms=1.0, source="measured") for spec in block_specs(space)}
    snapshot = LatencySnapshot(
        device="box", runtime="fake", precision="fp32", batch=1,
        source="measured", constant_ms=0.0, blocks=blocks,
    )  # fmt: skip
    keys: set[str] = set()
    for pixels in space.resolutions:
        figure = block_figure(space, snapshot, pixels)
        assert figure is not None
        cells = [cell for row in figure.data[0].customdata for cell in row if cell]
        assert len(set(cells)) == len(cells)
        keys |= {cell.partition("<")[0] for cell in cells}
    stages = (slot for slot in slots(space) if slot.name.startswith("stages"))
    assert keys == {spec.key for slot in stages for spec in slot.specs if spec is not None}


def test_what_the_user_named_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "<b>run", candidates=5, budget=EVIL, data=EVIL)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"training": {"note": EVIL}}))
    (run / "environment.json").write_text(json.dumps({"cpu": EVIL, "command": EVIL}))
    page = write_report(run, out=tmp_path / "page.html")
    text = page.read_text()
    assert "<img" not in text.replace(plotly.offline.get_plotlyjs(), "")
    assert "<b>run" not in text
    view = document_of(page)["views"][0]["figure"]["layout"]
    assert "&lt;img" in view["annotations"][0]["text"]  # Plotly reads tags in it


def test_two_runs_share_a_figure_in_what_was_measured_alike(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", devices=("box",))
    second = make_run(tmp_path / "second", devices=("other",), seed=1)
    content = document_of(write_report(first, second, out=tmp_path / "both.html"))
    assert [run["name"] for run in content["runs"]] == ["first", "second"]
    both = [view for view in content["views"] if len(view["series"]) == 2]
    # the devices differ: their latencies are never drawn on one axis
    assert [view["x"] for view in both] == [["macs", "macs"], ["params", "params"]]


def test_runs_on_a_host_that_nobody_knows_are_not_compared_in_latency(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, devices=("host",)) for name in ("first", "second")]
    content = document_of(write_report(*runs, out=tmp_path / "both.html"))
    both = [view["x"] for view in content["views"] if len(view["series"]) == 2]
    assert both == [["macs", "macs"], ["params", "params"]]


def test_two_runs_on_other_images_are_not_compared(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", data="fashion-mnist")
    page = write_report(first, second, out=tmp_path / "both.html")
    assert all(len(view["series"]) == 1 for view in document_of(page)["views"])
    assert "share no quantity measured alike" in page.read_text()


def test_two_runs_under_other_preprocessing_are_not_compared(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", preprocessing="imagenet")
    page = write_report(first, second, out=tmp_path / "both.html")
    assert all(len(view["series"]) == 1 for view in document_of(page)["views"])
    assert "share no quantity measured alike" in page.read_text()


# -- what a run lacks ------------------------------------------------------------------------------


def test_a_run_without_a_search_shows_its_training_and_says_what_is_missing(
    tmp_path: Path,
) -> None:
    start_run(tmp_path, SearchSpace.load("digits_tiny"))
    text = write_report(tmp_path).read_text()
    assert "No search yet" in text
    assert f"nassearch search --supernet {tmp_path}" in text
    assert 'id="training"' in text
    assert 'id="candidates"' not in text


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    start_run(tmp_path, SearchSpace.load("digits_tiny"))
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "environment.json").unlink()
    text = write_report(tmp_path).read_text()
    assert "No trained supernet yet" in text
    assert 'id="training"' not in text


def test_a_search_that_was_killed_shows_what_it_had_found(made_up: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made_up, tmp_path / "run")
    search = run / "search" / "feedbeef-1"
    for path in (run / "search" / "picks.json", run / "search" / "latest"):
        path.unlink()
    for name in ("picks.json", "front.csv", "candidates.csv", "latency.json"):
        (search / name).unlink()
    lines = (search / "candidates.jsonl").read_text().splitlines()
    (search / "candidates.jsonl").write_text("\n".join(lines[:7]) + '\n{"architecture": "cut')
    page = write_report(run)
    (search,) = document_of(page)["runs"][0]["searches"]
    assert len(search["ids"]) == 7
    assert search["settings"] == []
    text = page.read_text()
    assert "was stopped before its end" in text
    assert "kept no block times" in text


def test_a_search_in_a_place_of_its_own_has_a_report_too(made_up: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    shutil.copytree(made_up / "search", place / "search")
    picks = place / "search" / "picks.json"
    content = json.loads(picks.read_text())
    picks.write_text(json.dumps({**content, "run": os.path.relpath(made_up, place)}))
    page = write_report(place)
    assert page == place / "report.html"
    assert document_of(page)["runs"][0]["searches"]


def test_something_else_than_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("environment.json", "{"),
        ("recipe.yaml", "- a list"),
        ("search/picks.json", "{"),
        ("search/feedbeef-1/latency.json", '{"schema": 2, "settings": []}'),
        ("search/feedbeef-1/search.json", "{"),
    ],
)
def test_a_damaged_file_is_named(made_up: Path, tmp_path: Path, file: str, content: str) -> None:
    run = shutil.copytree(made_up, tmp_path / "run")
    (run / file).write_text(content)
    (run / "report.html").unlink(missing_ok=True)
    with pytest.raises(NassearchError, match=Path(file).name):
        write_report(run)
    assert not (run / "report.html").exists()


# -- the front as an image -------------------------------------------------------------------------


def test_the_front_is_drawn_for_a_paper(made_up: Path, tmp_path: Path) -> None:
    pytest.importorskip("kaleido", reason="images need nassearch[images]")
    try:
        path = write_front(made_up, out=tmp_path / "front.svg")
    except RuntimeUnavailableError as error:
        pytest.skip(f"no browser to draw with ({error})")
    text = path.read_text()
    assert text.startswith("<svg")
    assert "latency on box" in text


def test_without_a_browser_an_image_is_refused_in_one_line(
    made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(figure: object) -> Any:
        raise RuntimeError("Kaleido requires Google Chrome\nto be installed.\n\nEither ...")

    monkeypatch.setattr(room, "for_paper", fail)
    with pytest.raises(RuntimeUnavailableError, match=r"requires Google Chrome\).*pip install"):
        write_front(made_up, out=tmp_path / "front.png")
    assert not list(tmp_path.iterdir())


def test_an_image_of_another_kind_is_refused(made_up: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf"):
        write_front(made_up, out=tmp_path / "front.gif")
