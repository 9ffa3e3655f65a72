"""How fast a report opens and answers, in headless Chromium, over many candidates.

    python experiments/report/bench.py [--candidates 2000] [--opens 7] [--out DIR]

Makes up a run of the space mobilenet_v3 on two devices (accuracies follow a formula, latencies a
fake device and a datasheet), writes its report, opens it in a fresh browser several times, and then
does what a person does. An answer's time runs from the event to the end of the frame that shows it.
Needs Debian's chromium and chromium-driver.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nassearch.latency.device import host_cpu_name
from nassearch.report.page import write_report
from tests.report.browser import CHROMIUM, Browser, chromium
from tests.report.made_up_run import make_run

REPEATS = 9
# runs an action, and calls back with the milliseconds until its frame is painted
MEASURE = """
const [number, done] = arguments;
requestAnimationFrame(() => {
  const start = performance.now();
  ACTION;
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
});
"""
POINT = "document.querySelector('#front-figure')"
ACTIONS = {
    "select another candidate": (
        "const rows = document.querySelectorAll('#candidate-table tbody tr');"
        " rows[number + 1].click()"
    ),
    "sort the table": "document.querySelectorAll('#candidate-table th button')[3].click()",
    "filter the table": (
        "const box = document.querySelector('#filter'); box.value = `accuracy>9${number}`;"
        " box.dispatchEvent(new Event('input'))"
    ),
    "hover over the front": (
        f"const layer = {POINT}.querySelector('.nsewdrag').getBoundingClientRect();"
        f" {POINT}.querySelector('.nsewdrag').dispatchEvent(new MouseEvent('mousemove', "
        "{bubbles: true, clientX: layer.left + 40 + 60 * number, clientY: layer.top + 120}))"
    ),
    "zoom the front": f"Plotly.relayout({POINT}, {{'xaxis.range': [number, 10 + number]}})",
    "change the quantity": (
        "const view = document.querySelector('#view'); view.value = number % 2;"
        " view.dispatchEvent(new Event('change'))"
    ),
    "light or dark": "document.querySelector('#theme').click()",
}


def opened(page: Path) -> float:
    """Seconds from the start of the navigation until the page is painted, in a fresh browser."""
    with chromium() as browser:
        browser.open(page)
        return float(browser.value("performance.getEntriesByName('ready')[0].startTime")) / 1e3


def answers(browser: Browser, action: str) -> list[float]:
    """Milliseconds of several repetitions."""
    browser.driver.set_script_timeout(60)
    script = MEASURE.replace("ACTION", action)
    return [float(browser.driver.execute_async_script(script, number)) for number in range(REPEATS)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--opens", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    console = Console(width=120)
    if CHROMIUM is None:
        raise SystemExit("there is no Chromium: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory() as temporary:
        run = (arguments.out or Path(temporary)) / "run"
        if not (run / "recipe.yaml").exists():
            make_run(
                run,
                space="mobilenet_v3",
                candidates=arguments.candidates,
                devices=("box", "a100"),
                data="imagefolder:/photos",
            )
        start = time.perf_counter()
        page = write_report(run)
        written = time.perf_counter() - start
        size = page.stat().st_size / 1e6
        console.print(
            f"{arguments.candidates} candidates: written in {written:.1f} s, {size:.2f} MB"
        )
        seconds = [opened(page) for _ in range(arguments.opens)]
        console.print(
            f"opens in {statistics.median(seconds):.2f} s (median of {len(seconds)} fresh"
            f" browsers, {min(seconds):.2f} to {max(seconds):.2f})"
        )
        table = Table("action", "median ms", "worst ms", box=None)
        with chromium() as browser:
            browser.open(page)
            for name, action in ACTIONS.items():
                times = answers(browser, action)
                table.add_row(name, f"{statistics.median(times):.0f}", f"{max(times):.0f}")
            complaints = browser.complaints()
        console.print(table)
        console.print(f"console messages: {len(complaints)} {complaints[:3]}")
        console.print(f"{host_cpu_name()}, {CHROMIUM}, headless, without a GPU")


if __name__ == "__main__":
    main()
