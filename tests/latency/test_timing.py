"""Timing: what the machine does beside a measurement does not end up in it."""

from collections.abc import Callable

import numpy as np
import pytest

from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import (
    Timing,
    drift_problem,
    interleave,
    load_slope,
    reference_ms,
    reference_networks,
    references,
    standard_error,
)
from nassearch.runtimes.fake import FakeRuntime
from nassearch.setting import Setting
from nassearch.space import SearchSpace


def _rounds(truth: list[float], drift: np.ndarray, noise: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (len(drift), len(truth), 3)
    jitter = 1 + noise * rng.standard_normal(shape)
    return np.array(truth)[None, :, None] * drift[:, None, None] * jitter


def test_what_slows_down_every_network_is_divided_out() -> None:
    truth = [1.0, 2.0, 5.0, 9.0, 3.0]
    rng = np.random.default_rng(1)
    drift = np.where(rng.random(60) < 0.4, 1.2, 1.0)
    raw = _rounds(truth, drift, 0.002)
    timing = Timing.of_rounds(raw, 2)
    assert timing.samples_ms.shape == (3, 60, 3)
    ratios = timing.medians_ms / np.array(truth[2:])
    np.testing.assert_allclose(ratios / ratios.mean(), 1, atol=0.002)
    assert timing.noise_floor < 0.002
    apart = np.median(raw[:30], axis=(0, 2)) / np.median(raw[30:], axis=(0, 2)) - 1
    assert timing.noise_floor < np.abs(apart).mean() + 1e-3


def test_each_kind_of_network_has_a_drift_of_its_own() -> None:
    raw = _rounds([1.0, 2.0, 5.0, 9.0, 3.0, 6.0, 7.0], np.linspace(1, 1.2, 60), 0.001)
    raw[30:, 3:] *= 0.7  # the last four, from half of the rounds on
    timing = Timing.of_rounds(raw, 0)
    assert timing.noise_floor > 0.1
    plain, traced = timing.part(slice(3)), timing.part(slice(3, None))
    assert max(plain.noise_floor, traced.noise_floor) < 0.002
    assert max(plain.standard_error, traced.standard_error) < timing.standard_error / 5
    ratios = plain.medians_ms / np.array([1.0, 2.0, 5.0])
    np.testing.assert_allclose(ratios / ratios.mean(), 1, atol=0.002)
    steady = np.median(raw[:, 4], axis=1) / traced.drift
    np.testing.assert_allclose(steady / steady.mean(), 1, atol=0.005)


def test_a_disturbance_of_one_network_is_its_own_and_stays_visible() -> None:
    raw = _rounds([1.0, 2.0, 3.0, 4.0], np.ones(40), 0.001)
    raw[::2, 3] *= 1.3
    timing = Timing.of_rounds(raw, 0)
    assert np.median(timing.samples_ms[3, ::2]) > 1.2 * np.median(timing.samples_ms[3, 1::2])
    np.testing.assert_allclose(timing.medians_ms[:3], [1, 2, 3], rtol=0.005)


def test_a_network_alone_keeps_its_noise() -> None:
    raw = _rounds([1.0], np.array([1.0, 1.5] * 20), 0.0)
    assert np.ptp(Timing.of_rounds(raw, 0).samples_ms) == pytest.approx(0.5)


def test_sessions_of_a_slower_hour_are_put_on_the_clock_of_the_first() -> None:
    truth = [1.0, 4.0, 2.0]
    first = Timing.of_rounds(_rounds(truth, np.ones(20), 0.001), 2)
    later = Timing.of_rounds(_rounds([1.3 * ms for ms in truth], np.ones(20), 0.001), 2)
    [found] = later.measurements(reference_ms=first.reference)
    assert found.median_ms == pytest.approx(2.0, rel=0.003)


def test_the_standard_error_falls_with_the_root_of_the_rounds() -> None:
    rng = np.random.default_rng(0)
    errors = [
        standard_error(1 + 0.05 * rng.standard_normal((200, rounds))) for rounds in (100, 400)
    ]
    assert errors[0] == pytest.approx(1.2533 * 0.05 / 10, rel=0.1)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def _jittery(level: float, seed: int) -> Callable[[], float]:
    rng = np.random.default_rng(seed)
    return lambda: level * (1 + 0.01 * rng.standard_normal())


def test_timing_ends_at_the_target_or_at_the_last_round_and_says_which() -> None:
    subjects = [_jittery(1 + seed, seed) for seed in range(4)]
    reached = interleave(subjects, seconds=100, target_error=0.005, max_rounds=500)
    assert reached.stopped == "target"
    assert reached.standard_error < 0.005
    assert interleave(subjects, seconds=100, max_rounds=7).stopped == "rounds"
    assert interleave(subjects, seconds=0).stopped == "time"


def test_a_table_keeps_the_time_of_its_reference_networks(
    space: SearchSpace, table: LatencyTable, setting: Setting
) -> None:
    assert {space.smallest, space.largest} <= set(reference_networks(space))
    clock = reference_ms(table, space)
    assert clock is not None
    timing = interleave([], references=references(space, FakeRuntime(setting)), seconds=0)
    assert timing.reference == pytest.approx(clock, rel=0.01)
    other = SearchSpace.load("mobilenet_v3")
    assert reference_ms(table, other) is None


def test_a_mixed_space_has_more_references_and_the_same_ones_first(space: SearchSpace) -> None:
    mixed = space.mixed(("int8", "fp32"))
    networks = reference_networks(mixed)
    assert len(networks) > len(reference_networks(space))
    drawn = mixed.sample_many(np.random.default_rng(0), 3)
    assert networks[:5] == [mixed.smallest, mixed.largest, *drawn]


def test_a_trend_along_the_order_of_loading_is_found_beside_outliers() -> None:
    rng = np.random.default_rng(0)
    positions = rng.permutation(20)
    truth = np.exp(0.002 * positions)
    ratios = 1.3 * truth * np.exp(0.002 * rng.standard_normal(20))
    ratios[3] *= 1.2
    assert load_slope(ratios, positions) == pytest.approx(0.002, rel=0.2)
    assert load_slope(np.ones(1), np.zeros(1, dtype=np.int64)) == 0.0


@pytest.mark.parametrize(
    ("drift", "message"),
    [
        (None, None),
        (1.0, None),
        (1.49, None),
        (0.67, None),
        (1.51, "1.51 times slower"),
        (8.95, "8.95 times slower"),
        (0.5, "2.00 times faster"),
        (float("nan"), "none"),
    ],
)
def test_a_drift_beyond_a_half_more_is_no_drift(drift: float | None, message: str | None) -> None:
    problem = drift_problem(drift)
    assert (problem is None) == (message is None)
    assert message is None or message in str(problem)


def test_an_interruption_keeps_whole_rounds_only() -> None:
    calls = iter(range(10**6))

    def run() -> float:
        return float(next(calls) % 7 + 1)

    count = 0

    def interrupted() -> bool:
        nonlocal count
        count += 1
        return count > 7

    timing = interleave([run, run], seconds=60, interrupted=interrupted)
    assert timing.stopped == "interrupted"
    assert timing.samples_ms.shape[1] == 7


def test_too_few_rounds_say_nothing() -> None:
    with pytest.raises(KeyboardInterrupt):
        interleave([lambda: 1.0], seconds=60, interrupted=lambda: True)
