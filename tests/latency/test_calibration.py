"""Calibration: blocks known as such, transfer that chooses, intervals with a floor."""

from dataclasses import replace

import numpy as np
import pytest

from nassearch.latency.block_features import features
from nassearch.latency.block_process import Evidence, fit_process
from nassearch.latency.calibration import fit, fit_transfer
from nassearch.latency.coverage import covering, telling
from nassearch.latency.design import most_telling, variance_left
from nassearch.latency.interval import REPEATABLE, repeatability
from nassearch.latency.predictor import LatencyPredictor
from nassearch.networks import block_cost
from nassearch.runtimes.fake import fake_block_ms
from nassearch.setting import Setting
from nassearch.space import BlockSpec, SearchSpace, block_specs, lower


def _own_times(space: SearchSpace, rng: np.random.Generator) -> dict[BlockSpec, float]:
    """Each block a time of its own, which no physical quantity tells."""
    return {spec: float(rng.uniform(0.5, 2)) for spec in block_specs(space)}


def _networks(
    space: SearchSpace, rng: np.random.Generator, count: int
) -> list[tuple[BlockSpec, ...]]:
    return [lower(space, architecture) for architecture in space.sample_many(rng, count)]


def test_a_block_is_known_from_the_networks_that_hold_it(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    times = _own_times(space, rng)
    networks, unseen = _networks(space, rng, 70), _networks(space, rng, 50)
    measured = np.array([sum(times[spec] for spec in specs) for specs in networks])
    fitted = fit(networks, measured, dict.fromkeys(times, 0.0))
    assert fitted.deviations
    predicted = [fitted.constant + sum(fitted.block_ms(s, 0.0) for s in specs) for specs in unseen]
    truth = [sum(times[spec] for spec in specs) for specs in unseen]
    assert np.mean(np.abs(np.array(predicted) / truth - 1)) < 0.002


def test_launches_are_counted_by_kind(space: SearchSpace) -> None:
    for spec in lower(space, space.largest):
        layers = block_cost(spec).layers
        assert sum(features(spec)[10:15]) == sum(times for _, times in layers)


def test_leave_one_out_of_a_process_is_that_of_fits_without_a_network(
    rng: np.random.Generator,
) -> None:
    rows = rng.standard_normal((30, 3))
    target = rows @ [0.3, -0.2, 0.1] + 0.01 * rng.standard_normal(30)
    evidence = Evidence(target, (rows @ rows.T, np.eye(30) * 0.1))
    process = fit_process(evidence, residuals=0.05 * rng.standard_normal(30), columns=3)
    kept = np.arange(1, 30)
    total = sum(v * p for v, p in zip(process.variances, evidence.parts, strict=True))
    total = total + np.diag(process.noise / process.weights)
    alone = total[0, kept] @ np.linalg.solve(total[np.ix_(kept, kept)], target[kept])
    assert process.residuals[0] == pytest.approx(target[0] - alone, rel=1e-6)


def test_transfer_between_like_devices_takes_the_other_s_blocks(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    times, networks = _own_times(space, rng), _networks(space, rng, 10)
    measured = np.array([0.4 * sum(times[spec] for spec in specs) for specs in networks])
    assert fit_transfer(networks, measured, times).share == 1.0


def test_transfer_between_unlike_devices_learns_from_its_own_networks(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    times, networks = _own_times(space, rng), _networks(space, rng, 24)
    measured = np.array([sum(map(fake_block_ms, specs)) for specs in networks])
    assert fit_transfer(networks, measured, times).share == 0.0


def test_a_transferred_prediction_says_what_it_took(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    there = Setting("there", "fake")
    pairs = [
        (space, a, sum(map(fake_block_ms, lower(space, a)))) for a in space.sample_many(rng, 20)
    ]
    known = LatencyPredictor.from_networks(space, there, pairs)
    slower = [(owner, a, 3 * ms * (1 + 0.01 * rng.standard_normal())) for owner, a, ms in pairs]
    moved = known.transfer(Setting("here", "fake"), slower[:10])
    assert known.transferred is None
    assert moved.transferred is not None and str(there) in moved.transferred
    assert moved.provenance == f"predicted from measured, {moved.transferred}"
    half = replace(moved, calibration=replace(moved.calibration, share=0.5))
    none = replace(moved, calibration=replace(moved.calibration, share=0.0))
    assert half.transferred == f"50% transferred from {there}, the rest from its own networks"
    assert none.transferred == f"from its own networks, without {there}"
    # what comes later is weighed anew
    assert moved.calibrate(slower[10:]).other == there


def test_no_interval_is_narrower_than_what_repeats() -> None:
    assert repeatability(np.array([31.0, 29.0, 26.0])) == pytest.approx(0.5 / 29)
    assert repeatability(np.array([21.80712, 14.92854])) == REPEATABLE


def test_an_exact_device_has_the_interval_of_a_clock(
    space: SearchSpace, setting: Setting, rng: np.random.Generator
) -> None:
    pairs = [
        (space, a, sum(map(fake_block_ms, lower(space, a)))) for a in space.sample_many(rng, 40)
    ]
    predictor = LatencyPredictor.from_networks(space, setting, pairs)
    assert predictor.calibration.ratio == pytest.approx(REPEATABLE)


def test_networks_to_measure_are_spread_over_sizes(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    networks = _networks(space, rng, 60)
    times = {spec: fake_block_ms(spec) for specs in networks for spec in specs}
    chosen = most_telling(networks, 6, rng, block_ms=times)
    order = np.argsort([sum(times[spec] for spec in specs) for specs in networks], kind="stable")
    places = [int(np.flatnonzero(order == index)[0]) // 10 for index in chosen]
    assert places == [0, 1, 2, 3, 4, 5]
    drawn = [variance_left(networks, rng.choice(60, 6, replace=False).tolist()) for _ in range(20)]
    assert variance_left(networks, chosen) < np.median(drawn)


def test_as_many_as_there_are_is_all_of_them(space: SearchSpace, rng: np.random.Generator) -> None:
    networks = _networks(space, rng, 4)
    assert most_telling(networks, 5, rng) == [0, 1, 2, 3]


def test_a_profile_s_networks_hold_as_many_blocks_as_a_covering(space: SearchSpace) -> None:
    def blocks(architectures: list) -> int:  # type: ignore[type-arg]
        return len({spec for a in architectures for spec in lower(space, a)})

    chosen = telling(space, np.random.default_rng(0), limit=6)
    assert len(chosen) == 6
    assert blocks(chosen) >= blocks(covering(space, np.random.default_rng(0), limit=6))
