"""Headless Chromium as the tests and the bench of the report drive it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
WAIT_SECONDS = 60
_FLAGS = (
    "--headless",
    "--no-sandbox",  # root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
)
DESKTOP = (1280, 900)
PHONE = (390, 844)


@contextmanager
def chromium(size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Iterator["Browser"]:
    """A browser window of `size` pixels, closed at the end."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*_FLAGS, f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        browser = Browser(driver)
        browser.resize(*size)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        yield browser
    finally:
        driver.quit()


class Browser:
    """A page in Chromium, and what a person does with it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Open the page and wait until it is painted."""
        self.driver.get(page.resolve().as_uri())
        self.until("document.documentElement.dataset.ready === 'yes'")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def value(self, expression: str) -> Any:
        return self.run(f"return {expression}")

    def until(self, condition: str) -> None:
        """Wait for a condition of the page."""
        WebDriverWait(self.driver, WAIT_SECONDS, poll_frequency=0.05).until(
            lambda driver: driver.execute_script(f"return Boolean({condition})")
        )

    def text(self, selector: str) -> str:
        """The text of the first element of a kind."""
        return self.texts(selector)[0]

    def texts(self, selector: str) -> list[str]:
        texts: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])]"
            ".map((node) => node.innerText ?? node.textContent)",  # SVG has only the latter
            selector,
        )
        return texts

    def click_at(self, x: float, y: float) -> None:
        """Move the mouse there and click."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG, with every figure drawn."""
        width = self.value("innerWidth")
        for _ in range(2):  # figures that come into sight may change the height
            self.resize(width, self.value("document.documentElement.scrollHeight"))
            self.until("[...document.querySelectorAll('.figure')].every((node) => node.data)")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """Lines of the console: errors, warnings, anything the page was refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
