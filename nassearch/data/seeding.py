"""Generators that depend on the seed and the place in the training alone, so resuming is exact."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What a generator is for; generators of different streams are independent."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    SUBNETS = 3
    LAYERS = 4
    SPLIT = 5
    CALIBRATION = 6
    WATCHED = 7
    FLIPS = 8


def derive_seed(seed: int, stream: Stream, *place: int) -> int:
    """A seed of 63 bits for one place (epoch, step, ...) of one stream."""
    sequence = np.random.SeedSequence((seed, int(stream), *place))
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


def torch_generator(seed: int, stream: Stream, *place: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, stream, *place))


def numpy_generator(seed: int, stream: Stream, *place: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, stream, *place))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What code of others draws within the block, from torch, numpy or random, is from `seed`.

    Afterwards their generators go on as if nothing had been drawn.
    """
    kept = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
