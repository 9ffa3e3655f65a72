"""A browser for the tests that need one; without Chromium they are skipped, and say so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nassearch.report.page import write_report
from tests.report.browser import Browser
from tests.report.made_up_run import make_run


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from tests.report.browser import CHROMIUM, DRIVER, chromium

    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a measured and on an estimated device."""
    return make_run(tmp_path_factory.mktemp("runs") / "made-up", devices=("box", "a100"))


@pytest.fixture(scope="session")
def page(made_up: Path) -> Path:
    return write_report(made_up)
