"""What every test shares: one thread (the machine is shared) and an explicit source of chance."""

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2026)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2026)
