"""A small space whose networks load in every runtime at once."""

import pytest

from nassearch.space import SearchSpace


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.load("digits_tiny")
