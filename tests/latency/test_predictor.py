"""The predictor: additive, exact in its minimum, calibrated, and honest about its error."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from nassearch.errors import TableError
from nassearch.latency.block_features import features
from nassearch.latency.interval import half_width, misses
from nassearch.latency.measurement import MeasuredNetwork
from nassearch.latency.predictor import LatencyPredictor, Pair
from nassearch.latency.table import LatencyTable
from nassearch.runtimes.fake import fake_block_ms
from nassearch.runtimes.runtime import Floats
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace, block_specs, lower


def _true_ms(space: SearchSpace, architectures: Sequence[Architecture]) -> Floats:
    return np.array([sum(map(fake_block_ms, lower(space, a))) for a in architectures])


def _pairs(
    space: SearchSpace, rng: np.random.Generator, count: int, *, noise: float, scale: float = 1.0
) -> list[Pair]:
    architectures = space.sample_many(rng, count)
    measured = scale * _true_ms(space, architectures) * (1 + noise * rng.standard_normal(count))
    return [(space, a, float(ms)) for a, ms in zip(architectures, measured, strict=True)]


def _error(predictor: LatencyPredictor, pairs: Sequence[Pair]) -> float:
    measured = np.array([ms for _, _, ms in pairs])
    predicted = predictor.predict([architecture for _, architecture, _ in pairs])
    return float(np.mean(np.abs(predicted / measured - 1)))


def test_prediction_over_genes_is_the_sum_over_blocks(
    space: SearchSpace, table: LatencyTable, rng: np.random.Generator
) -> None:
    predictor = LatencyPredictor.from_table(table, space)
    genes = space.sample_genes(rng, 50)
    calibration = predictor.calibration
    sums = [
        calibration.constant
        + sum(
            calibration.block_ms(spec, table[spec.key].median_ms)
            for spec in lower(space, space.decode(row))
        )
        for row in genes.tolist()
    ]
    np.testing.assert_allclose(predictor.predict_genes(genes), sums)


def test_the_minimum_is_the_fastest_of_every_architecture(
    space: SearchSpace, table: LatencyTable
) -> None:
    predictor = LatencyPredictor.from_table(table, space)
    fastest, milliseconds = predictor.minimum()
    everything = predictor.predict(list(space.enumerate()))
    assert milliseconds == pytest.approx(float(everything.min()))
    assert predictor.predict([fastest])[0] == pytest.approx(milliseconds)


def test_calibration_gives_a_new_predictor_and_leaves_the_old(
    space: SearchSpace, table: LatencyTable, rng: np.random.Generator
) -> None:
    predictor = LatencyPredictor.from_table(replace(table, networks=()), space)
    slower = predictor.calibrate(_pairs(space, rng, 12, noise=0.0, scale=1.5))
    assert predictor.calibration.ratio is None
    assert slower.fingerprint != predictor.fingerprint
    unseen = _pairs(space, rng, 40, noise=0.0, scale=1.5)
    assert _error(slower, unseen) < 0.01
    assert _error(predictor, unseen) > 0.3


def test_whole_networks_alone_make_a_predictor(
    space: SearchSpace, setting: Setting, rng: np.random.Generator
) -> None:
    predictor = LatencyPredictor.from_networks(space, setting, _pairs(space, rng, 40, noise=0.0))
    assert predictor.source == "measured"
    assert _error(predictor, _pairs(space, rng, 100, noise=0.0)) < 0.01


def test_ten_measurements_transfer_a_table_to_another_device(
    space: SearchSpace, table: LatencyTable, rng: np.random.Generator
) -> None:
    source = LatencyPredictor.from_table(table, space)
    other = Setting("faster", "fake")
    moved = source.transfer(other, _pairs(space, rng, 10, noise=0.005, scale=0.4))
    assert moved.setting == other
    assert _error(moved, _pairs(space, rng, 100, noise=0.0, scale=0.4)) < 0.01


def test_too_few_networks_are_refused(
    space: SearchSpace, setting: Setting, rng: np.random.Generator
) -> None:
    with pytest.raises(TableError, match="4 measured networks"):
        LatencyPredictor.from_networks(space, setting, _pairs(space, rng, 4, noise=0.0))


def test_one_disturbed_measurement_hardly_moves_the_prediction(
    space: SearchSpace, setting: Setting, rng: np.random.Generator
) -> None:
    pairs = _pairs(space, rng, 40, noise=0.005)
    spoilt = [(*pairs[0][:2], pairs[0][2] * 1.6), *pairs[1:]]
    unseen = _pairs(space, rng, 100, noise=0.0)
    assert _error(LatencyPredictor.from_networks(space, setting, spoilt), unseen) < 0.012


@pytest.mark.parametrize("networks", [24, 90])
def test_the_interval_holds_nine_in_ten(
    space: SearchSpace, table: LatencyTable, rng: np.random.Generator, networks: int
) -> None:
    bare = LatencyPredictor.from_table(replace(table, networks=()), space)
    covered = []
    for _ in range(12):
        predictor = bare.calibrate(_pairs(space, rng, networks, noise=0.03))
        unseen = _pairs(space, rng, 150, noise=0.03)
        low, high = predictor.interval([a for _, a, _ in unseen])
        measured = np.array([ms for _, _, ms in unseen])
        covered.append(np.mean((low <= measured) & (measured <= high)))
    assert 0.87 <= np.mean(covered) <= 0.95


def test_the_interval_of_few_networks_covers_nine_in_ten_of_exponential_errors(
    rng: np.random.Generator,
) -> None:
    draws = rng.exponential(0.02, (4000, 19))
    covered = [errors[-1] <= half_width(errors[:-1]) for errors in draws]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)


def test_the_interval_of_many_networks_is_told_by_rank(rng: np.random.Generator) -> None:
    sizes = np.abs(rng.standard_cauchy(99))
    assert half_width(sizes) == np.sort(sizes)[89]


def test_an_interval_reaches_as_far_as_its_misses(rng: np.random.Generator) -> None:
    """Also where predictions are far too low: a half of what was measured needs as much again."""
    predicted = np.exp(rng.normal(0.0, 0.5, 99))
    half = half_width(misses(1 - predicted))
    assert misses(np.array([0.5, -0.5])).tolist() == [1.0, 0.5]
    within = (predicted / (1 + half) <= 1) & (predicted * (1 + half) >= 1)
    assert within.sum() == 90


def test_a_noisy_machine_widens_the_interval(space: SearchSpace, table: LatencyTable) -> None:
    noisy = replace(table, facts={**table.facts, "noise_floor": 0.2}).profiled(space)
    predictor = LatencyPredictor.from_table(noisy, space)
    low, high = predictor.interval([space.largest])
    assert low[0] <= predictor.predict([space.largest])[0] / 1.2
    assert high[0] >= predictor.predict([space.largest])[0] * 1.2


def test_networks_far_from_the_size_of_the_space_s_do_not_widen_its_interval(
    space: SearchSpace, table: LatencyTable
) -> None:
    large = SearchSpace.from_dict({**space.to_dict(), "resolution": 64})
    blocks = {spec.key: fake_block_ms(spec) for spec in lower(large, large.largest)}
    stranger = replace(table.networks[0].measurement, median_ms=9 * sum(blocks.values()))
    added = {key: replace(stranger, median_ms=ms) for key, ms in blocks.items()}
    mixed = replace(
        table,
        blocks={**added, **table.blocks},
        networks=(*table.networks, MeasuredNetwork.of(large, large.largest, stranger)),
    )
    alone = LatencyPredictor.from_table(table, space)
    assert LatencyPredictor.from_table(mixed, space).calibration == alone.calibration


def test_without_whole_networks_there_is_no_interval(
    space: SearchSpace, table: LatencyTable
) -> None:
    predictor = LatencyPredictor.from_table(replace(table, networks=()), space)
    with pytest.raises(TableError, match="no whole networks"):
        predictor.interval([space.smallest])


def test_a_prediction_says_the_least_certain_source_among_its_blocks(
    space: SearchSpace, table: LatencyTable
) -> None:
    assert LatencyPredictor.from_table(table, space).provenance == "predicted from measured"
    key = block_specs(space)[2].key
    blocks = {**table.blocks, key: replace(table[key], source="interpolated")}
    mixed = LatencyPredictor.from_table(replace(table, blocks=blocks), space)
    assert mixed.provenance == "predicted from interpolated"


def test_features_add_up_to_the_costs(space: SearchSpace) -> None:
    from nassearch.networks.cost import network_cost

    specs = lower(space, space.largest)
    total = np.sum([features(spec) for spec in specs], axis=0)
    counted = network_cost(specs)
    assert total[0] == len(specs)
    assert total[1:6].sum() == counted.macs
    assert total[6] == counted.activations
    assert total[-1] == counted.weight_bytes
