"""The profiler: every block is covered, and what it measures adds up to whole networks."""

from collections import Counter

import numpy as np
import pytest

from nassearch.latency.fake import fake_block_ms
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.profiler import covering
from nassearch.latency.table import LatencyTable
from nassearch.space import BlockSpec, SearchSpace, block_specs, lower


@pytest.mark.parametrize("repeats", [1, 4])
def test_every_block_is_covered_as_often_as_asked(
    space: SearchSpace, rng: np.random.Generator, repeats: int
) -> None:
    architectures = covering(space, rng, repeats=repeats)
    counts = Counter(spec for a in architectures for spec in lower(space, a))
    assert set(counts) == set(block_specs(space))
    assert min(counts.values()) >= repeats
    assert space.smallest in architectures
    assert space.largest in architectures
    assert len(set(architectures)) == len(architectures)


def test_a_profile_measures_every_block_of_the_space(
    space: SearchSpace, table: LatencyTable
) -> None:
    table.require_space(space, block_specs(space))
    assert {m.source for m in table.blocks.values()} == {"measured"}
    for name in ("version", "date", "host", "protocol", "noise_floor", "reference_ms"):
        assert name in table.facts


def test_a_profile_reproduces_the_block_times(table: LatencyTable) -> None:
    for key, measured in table.blocks.items():
        truth = fake_block_ms(BlockSpec.from_key(key))
        assert measured.median_ms == pytest.approx(truth, rel=0.02), key


def test_networks_never_measured_are_predicted_within_one_percent(
    space: SearchSpace, table: LatencyTable, rng: np.random.Generator
) -> None:
    predictor = LatencyPredictor.from_table(table, space)
    measured = {network.genes for network in table.networks}
    unseen = [a for a in space.sample_many(rng, 60) if space.encode(a) not in measured]
    truth = np.array([sum(map(fake_block_ms, lower(space, a))) for a in unseen])
    np.testing.assert_allclose(predictor.predict(unseen), truth, rtol=0.01)
