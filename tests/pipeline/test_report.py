"""The report of a real run in headless Chromium; its screenshots are kept as artefacts."""

from pathlib import Path

import pytest

from tests.pipeline.conftest import CommandLine
from tests.report.browser import CHROMIUM, DESKTOP, DRIVER, PHONE, chromium

ARTEFACTS = Path(__file__).parents[2] / "artefacts"


@pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium: apt-get install chromium chromium-driver",
)
@pytest.mark.parametrize(
    ("name", "size", "dark"),
    [("desktop", DESKTOP, False), ("phone", PHONE, True)],
)
def test_a_run_is_looked_at(run: Path, name: str, size: tuple[int, int], *, dark: bool) -> None:
    with chromium(size, dark=dark) as browser:
        browser.open(run / "report.html")
        chosen = browser.value("document.querySelector('.chosen a').dataset.id")
        browser.run("document.querySelector('.chosen a').click()")
        assert browser.text("#network-id") == chosen
        # measured by verify, on the device, within its interval or not: all on the page
        assert "measured" in browser.text("#network-facts")
        assert "exports, verified" in browser.text("#prediction-note")
        assert {"onnx", "weights"} <= set(browser.texts("#exports td:nth-child(2)"))
        # an export has its test accuracy there; other tests may have searched this run since
        assert " images)" in browser.text(".chosen")
        browser.screenshot(ARTEFACTS / f"report-{name}.png")
        assert browser.value("document.documentElement.scrollWidth") <= size[0]
        assert browser.complaints() == []


def test_two_runs_and_an_image_from_the_command_line(
    run: Path, nassearch: CommandLine, tmp_path: Path
) -> None:
    answer = nassearch("report", run, run, "--out", tmp_path / "both.html", "--json")
    assert answer.code == 0, answer.err
    assert answer.json() == {"report": str(tmp_path / "both.html")}
    refused = nassearch("report", run, "--image", tmp_path / "front.bmp")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert ".svg" in refused.err
