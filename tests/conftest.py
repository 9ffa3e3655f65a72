"""Shared by every test: one thread (the machine is shared), an explicit source of chance, and a
space and images small enough to train in a second."""

import random
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from nassearch.data.dataset import Data
from nassearch.data.loading import load_data
from nassearch.data.preprocessing import Preprocessing, Recalibration
from nassearch.export.memory import measure_peak_memory
from nassearch.space import SearchSpace

torch.set_num_threads(1)
# A busy machine is no fault of what is tested.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
# Under nohup, or in the background, a process begins with signals ignored that tests send to it.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

LONGEST = ("test_quickstart.py", "test_generated.py", "test_notebook.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left with one when the others are done."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


SPACE = {
    "name": "two_stages",
    "resolution": 8,
    "in_channels": 1,
    "num_classes": 10,
    "stem": {"op": "conv", "width": 8, "kernel_size": 3, "stride": 1, "activation": "relu"},
    "stages": [
        {
            "op": "mbconv",
            "width": 8,
            "depth": [1, 2],
            "stride": 2,
            "kernel_size": [3, 5],
            "expand_ratio": [1, 2],
            "activation": "relu",
        },
        {
            "op": "mbconv",
            "width": [8, 16],
            "depth": 1,
            "stride": 2,
            "kernel_size": 3,
            "expand_ratio": 2,
            "activation": "relu",
        },
    ],
    "head": {},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A draw that names no source of chance is the same in every run of its test."""
    torch.manual_seed(2026)
    np.random.seed(2026)
    random.seed(2026)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2026)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2026)


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.from_dict(SPACE)


@pytest.fixture(scope="session")
def digits() -> Data:
    return load_data("digits")


def calibrated(data: Data, images: int = 300) -> Data:
    """The same images, fewer of which set the statistics of batch norm."""
    said = Preprocessing(recalibration=Recalibration(images=images))
    return replace(data, preprocessing=said)


@pytest.fixture(scope="session", autouse=True)
def without_memory() -> Iterator[None]:
    """Exports are verified as where the system does not tell the memory that a process takes.

    A process that tells it imports torch anew for each format, which takes longer than all else
    that is verified; a test that is about this memory asks for `with_memory`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nassearch.export.verify.measure_peak_memory", lambda *_, **__: None)
        yield


@pytest.fixture
def with_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nassearch.export.verify.measure_peak_memory", measure_peak_memory)
