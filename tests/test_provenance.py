"""Estimates: what their intervals and beliefs say."""

import pytest

from nassearch.provenance import Belief, Estimate, Provenance

IMAGES = Provenance("evaluated", split="val", num_images=1000)


def test_an_interval_tells_the_variance_of_the_noise() -> None:
    assert Estimate(0.7, IMAGES, 0.7 - 0.0196, 0.7 + 0.0196).variance == pytest.approx(1e-4, 1e-4)
    assert Estimate(0.7, IMAGES, 0.7, 0.7).variance == 0.0
    assert Estimate(0.7, IMAGES).variance is None
    assert Estimate(0.7, IMAGES, float("-inf"), 0.8).variance is None


def test_a_belief_ranks_before_what_was_observed_and_is_written_beside_it() -> None:
    observed = Estimate(0.7, IMAGES, 0.68, 0.72, loss=0.9)
    believed = Estimate(0.7, IMAGES, 0.68, 0.72, loss=0.9, belief=Belief(0.66, 0.65, 0.67))
    assert believed.rank == 0.66 < observed.rank <= observed.value == believed.value
    record = believed.to_dict()
    assert record == {**observed.to_dict(), "expected": {"mean": 0.66, "low": 0.65, "high": 0.67}}
    assert Estimate.from_dict(record) == observed  # a belief is the search's own, not the value's
