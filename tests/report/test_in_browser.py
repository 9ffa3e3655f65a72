"""The page as a person uses it, in headless Chromium."""

from pathlib import Path

import pytest

from nassearch.report.beside import Beside
from nassearch.report.page import write_report
from nassearch.report.record import read_run
from nassearch.space import SearchSpace
from nassearch.training.evaluation import Accuracy
from tests.report.browser import DESKTOP, Browser
from tests.report.made_up_run import make_run, start_run

FRONT = "document.querySelector('#front-figure')"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.resize(*DESKTOP)
    browser.open(page)
    return browser


def place_of(browser: Browser, index: int) -> tuple[float, float]:
    """Where the candidate stands in the window, scrolled into sight."""
    browser.run("document.querySelector('#front').scrollIntoView({behavior: 'instant'})")
    x, y = browser.run(
        f"""
        const figure = {FRONT}, layout = figure._fullLayout, search = arguments[0];
        const [x, y] = ["x", "y"].map((name) => figure._fullData[0][name][search]);
        const box = figure.getBoundingClientRect();
        return [
          box.left + layout.xaxis._offset + layout.xaxis.d2p(x),
          box.top + layout.yaxis._offset + layout.yaxis.d2p(y),
        ];
        """,
        index,
    )
    return float(x), float(y)


def rows(browser: Browser, column: int) -> list[str]:
    return browser.texts(f"#candidate-table tbody td:nth-child({column})")


def test_a_click_on_a_point_draws_its_network(opened: Browser) -> None:
    before = opened.text("#network-id")
    # the slowest network stands alone
    index = opened.value(
        f"[...{FRONT}._fullData[0].x].reduce((best, x, at, all) => x > all[best] ? at : best, 0)"
    )
    opened.click_at(*place_of(opened, index))
    opened.until(f"document.querySelector('#network-id').innerText !== '{before}'")
    content = "JSON.parse(document.querySelector('#document').textContent)"
    search = f"{content}.runs[0].searches[0]"
    assert opened.text("#network-id") == opened.value(f"{search}.ids[{index}]")
    depth = opened.value(f"{search}.stages[{index}].flat().length")
    opened.run("document.querySelector('#network').scrollIntoView({behavior: 'instant'})")
    opened.until(f"document.querySelector('#network-figure').data[0].x.length === {depth}")
    bars = opened.value("document.querySelectorAll('#network-figure .bars .point').length")
    assert bars == depth
    # widths as heights, kernel and expand ratio as labels, latency as colour
    widths = opened.value(
        f"{search}.stages[{index}].flat().map((at) => {content}.runs[0].blocks[at].o)"
    )
    drawn = opened.value("[...document.querySelector('#network-figure').data[0].y]")
    assert drawn[:-1] == widths[:-1]
    labels = opened.texts("#network-figure .xtick")
    assert any("k5" in label or "k3" in label for label in labels)
    colors = opened.value("[...document.querySelector('#network-figure').data[0].marker.color]")
    assert len(set(colors)) > 1
    assert opened.complaints() == []


def test_the_network_is_marked_in_the_front_and_in_the_table(opened: Browser) -> None:
    opened.run("document.querySelectorAll('#candidate-table tbody tr')[4].click()")
    identity = rows(opened, 1)[4]
    assert opened.text("#network-id") == identity
    assert opened.text("#candidate-table tr.selected td") == identity
    mark = opened.value(f"[{FRONT}.layout.shapes[0].xanchor, {FRONT}.layout.shapes[0].yanchor]")
    accuracy, latency = rows(opened, 3)[4], rows(opened, 4)[4]
    assert mark == pytest.approx([float(latency), float(accuracy)], rel=1e-3)


def test_hovering_shows_the_architecture(opened: Browser) -> None:
    x, y = place_of(opened, 0)
    for step in (6, 2, 0):
        event = {"type": "mouseMoved", "x": x + step, "y": y}
        opened.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    opened.until("document.querySelector('#front-figure .hoverlayer text')")
    text = opened.text("#front-figure .hoverlayer")
    assert "accuracy on validation images" in text
    assert "estimated" in text  # of the device that nobody measured
    assert "k3" in text


def test_the_table_is_sorted_by_a_click_on_its_heading(opened: Browser) -> None:
    shown = [float(cell) for cell in rows(opened, 3)]
    assert shown == sorted(shown, reverse=True)  # the most accurate first
    for descending in (False, True):
        opened.run("document.querySelectorAll('#candidate-table th button')[3].click()")
        shown = [float(cell) for cell in rows(opened, 4)]
        assert shown == sorted(shown, reverse=descending)
        heading = opened.value("document.querySelectorAll('#candidate-table th')[3].ariaSort")
        assert heading == ("descending" if descending else "ascending")


def type_filter(browser: Browser, text: str) -> None:
    browser.run(
        "const box = document.querySelector('#filter'); box.value = arguments[0];"
        " document.querySelector('#filter-help').textContent = '';"
        " box.dispatchEvent(new Event('input'))",
        text,
    )
    browser.until("document.querySelector('#filter-help').textContent")


def test_the_table_is_filtered_by_words_and_comparisons(opened: Browser) -> None:
    below, above = sorted({float(cell) for cell in rows(opened, 4)})[11:13]
    middle = (below + above) / 2  # what is shown is rounded, and must not be what decides
    type_filter(opened, f"accuracy>96 latency:box<{middle}")
    assert rows(opened, 1)
    assert all(float(cell) > 96 for cell in rows(opened, 3))
    assert all(float(cell) < middle for cell in rows(opened, 4))
    type_filter(opened, "front")
    assert set(rows(opened, 2)) <= {"front", *(row for row in rows(opened, 2) if "chosen" in row)}
    type_filter(opened, "nonsense>3")
    assert "no column nonsense" in opened.text("#filter-help")
    type_filter(opened, "no-such-network")
    assert opened.text("#filter-help").startswith("0 of 60")
    assert rows(opened, 1) == []


def test_pages_of_the_table_turn(opened: Browser) -> None:
    first = rows(opened, 1)
    opened.run("document.querySelector('#next').click()")
    assert not set(first) & set(rows(opened, 1))
    assert opened.text("#page-number") == "2 of 3"


def test_the_table_downloads_what_it_shows(opened: Browser, tmp_path: Path) -> None:
    allow = {"behavior": "allow", "downloadPath": str(tmp_path)}
    opened.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
    type_filter(opened, "front")
    opened.run("document.querySelector('#download').click()")
    path = tmp_path / "made-up-candidates.csv"
    opened.until("true")
    for _ in range(100):
        if path.exists():
            break
        opened.driver.execute_async_script("setTimeout(arguments[0], 50)")
    lines = path.read_text().splitlines()
    assert lines[0].startswith('network,on,"accuracy, %"')
    assert len(lines) - 1 == int(opened.text("#filter-help").split()[0])


def test_the_quantity_across_changes_the_figure(opened: Browser) -> None:
    labels = opened.value("[...document.querySelector('#view').options].map((node) => node.text)")
    assert labels[:2] == ["latency on box", "latency on a100"]
    opened.run(
        "const view = document.querySelector('#view'); view.value = 1;"
        " view.dispatchEvent(new Event('change'))"
    )
    assert opened.value(f"{FRONT}.layout.xaxis.title.text") == "latency on a100, µs (estimated)"
    assert "estimated a100" in opened.text("#view-provenance").lower()


def test_the_waterline_stands_where_the_datasheet_is_known(opened: Browser) -> None:
    assert "no waterline" in opened.text("#waterline-caption")
    opened.run(
        "const setting = document.querySelector('#setting'); setting.value = 1;"
        " setting.dispatchEvent(new Event('change'))"
    )
    # fp16 peak of 312 TFLOP/s over 1555 GB/s
    assert "The waterline, 201" in opened.text("#waterline-caption")
    assert "estimated, not measured" in opened.text("#gap-caption")


def test_light_and_dark_follow_the_system_and_the_button(opened: Browser) -> None:
    def ground() -> str:
        return str(opened.value("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    opened.until("document.documentElement.dataset.theme === 'dark'")
    assert ground() != light
    opened.run("document.querySelector('#theme').click()")
    assert opened.text("#theme") == "Theme: light"
    assert ground() == light
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_on_a_phone_nothing_is_wider_than_the_window(opened: Browser) -> None:
    opened.resize(390, 844)
    opened.run("location.reload()")
    opened.until("document.documentElement.dataset.ready === 'yes'")
    # every list of choices may hold names longer than the window: devices are named by their owners
    opened.run(
        "for (const list of document.querySelectorAll('select'))"
        " list.add(new Option('latency on the box under the desk '.repeat(4)))"
    )
    assert opened.value("document.documentElement.scrollWidth") <= 390


def test_the_page_prints_on_white_with_every_figure(opened: Browser) -> None:
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert opened.value("document.documentElement.dataset.theme") == "light"
    assert opened.value("[...document.querySelectorAll('.figure')].every((node) => node.data)")
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert opened.text("#candidate-table th").strip() == "network"
    assert opened.value("document.querySelector('nav').offsetHeight") == 0
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert opened.complaints() == []


def test_two_runs_on_one_page(browser: Browser, made_up: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", seed=3, candidates=30)
    browser.open(write_report(made_up, other, out=tmp_path / "both.html"))
    assert browser.text("h1") == "made-up and other"
    assert browser.value("document.querySelector('#view').options[0].text") == (
        "both: latency on box"
    )
    names = browser.texts("#front-figure .legendtext")
    assert {"made-up: front", "other: front"} <= set(names)
    browser.run("document.querySelector('a[data-run=\"1\"]').click()")
    chosen = browser.value("document.querySelector('a[data-run=\"1\"]').dataset.id")
    assert browser.text("#network-id") == chosen
    assert chosen in rows(browser, 1)
    assert browser.complaints() == []


def test_a_run_without_a_search_opens_without_a_complaint(browser: Browser, tmp_path: Path) -> None:
    start_run(tmp_path, SearchSpace.load("digits_tiny"))
    browser.open(write_report(tmp_path))
    assert "No search yet" in browser.text("section.missing")
    browser.until("document.querySelector('#training-figure').data")
    assert browser.complaints() == []


def test_names_that_are_markup_stay_text(browser: Browser, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    browser.open(write_report(make_run(tmp_path / "<i>run", budget=evil, data=evil)))
    assert browser.text("h1") == "<i>run"
    assert browser.value("document.images.length") == 0
    assert evil in browser.text(".chosen td")
    assert browser.complaints() == []


def test_a_network_beside_the_front_is_drawn_and_no_candidate(
    browser: Browser, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    (setting,) = read_run(run).searches[0].settings.values()
    accuracy = Accuracy(0.99, "val", 100, (0.98, 1.0))
    page = tmp_path / "page.html"
    write_report(run, out=page, beside=Beside("mine.onnx", {setting: 0.2}, {}, accuracy))
    browser.resize(*DESKTOP)
    browser.open(page)
    before = browser.text("#network-id")
    last = f"{FRONT}._fullData.length - 1"
    assert browser.value(f"{FRONT}._fullData[{last}].name") == "mine.onnx"
    browser.run("document.querySelector('#front').scrollIntoView({behavior: 'instant'})")
    x, y = browser.run(
        f"""
        const figure = {FRONT}, layout = figure._fullLayout, star = figure._fullData[{last}];
        const box = figure.getBoundingClientRect();
        return [
          box.left + layout.xaxis._offset + layout.xaxis.d2p(star.x[0]),
          box.top + layout.yaxis._offset + layout.yaxis.d2p(star.y[0]),
        ];
        """
    )
    browser.click_at(float(x), float(y))
    assert browser.text("#network-id") == before
    assert "mine.onnx" in browser.text(".beside")
    assert browser.complaints() == []
