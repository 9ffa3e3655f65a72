"""A small space whose every architecture is known, and its table on the fake device."""

import numpy as np
import pytest

from nassearch.latency.profiler import profile
from nassearch.latency.table import LatencyTable
from nassearch.runtimes.fake import FakeRuntime
from nassearch.setting import Setting
from nassearch.space import SearchSpace

SETTING = Setting("dummy", "fake")


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.load("digits_tiny")


@pytest.fixture(scope="session")
def setting() -> Setting:
    return SETTING


@pytest.fixture(scope="session")
def table(space: SearchSpace) -> LatencyTable:
    return profile(
        space,
        SETTING,
        runtime=FakeRuntime(SETTING),
        rng=np.random.default_rng(0),
        seconds=0.01,
    )
