"""What a change of precision costs is learnt from whole networks, and predicted of all others."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from nassearch.errors import MissingKeyError, RuntimeUnavailableError
from nassearch.latency.border_profiler import mixed_networks, profile_borders
from nassearch.latency.mixed_predictor import MixedPredictor
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.profiler import profile
from nassearch.latency.table import LatencyTable
from nassearch.networks import Subnet
from nassearch.runtimes.fake import FakeRuntime, fake_block_ms, fake_network_ms
from nassearch.runtimes.runtime import deployed_space, mixable_precisions
from nassearch.setting import MIXED, Setting
from nassearch.space import SearchSpace, lower

SETTING = Setting("box", "fake", MIXED)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return deployed_space(SearchSpace.load("digits_tiny"), SETTING)


@pytest.fixture(scope="module")
def parts(space: SearchSpace) -> dict[str, LatencyPredictor]:
    """Predictors of each precision, whose device was twice as slow when int8 was measured."""
    found = {}
    for precision in space.precisions:
        setting = replace(SETTING, precision=precision)
        table = profile(
            space.plain,
            setting,
            runtime=FakeRuntime(setting),
            rng=np.random.default_rng(0),
            seconds=0.3,
        )
        found[precision] = LatencyPredictor.from_table(table, space.plain)
    return found


@pytest.fixture(scope="module")
def table(space: SearchSpace) -> LatencyTable:
    return profile_borders(
        space,
        SETTING,
        runtime=FakeRuntime(SETTING),
        rng=np.random.default_rng(0),
        seconds=0.3,
        target_error=0.0,
    )


def test_borders_and_scales_are_learnt(
    space: SearchSpace, parts: dict[str, LatencyPredictor], table: LatencyTable
) -> None:
    predictor = MixedPredictor.from_table(table, space, parts)
    # the fake device runs a block in int8 in half of the time that its int8 table says
    for precision, scale in (("fp32", 1.0), ("int8", 0.5)):
        specs = lower(space.plain, space.plain.largest)[1:-1]
        expected = [scale * fake_block_ms(spec) for spec in specs]
        found = [predictor.block_ms(spec, precision) for spec in specs]
        np.testing.assert_allclose(found, expected, rtol=0.03)
    others = mixed_networks(space, np.random.default_rng(7), 40)
    measured = [fake_network_ms(Subnet.of(space, item), SETTING).sum() for item in others]
    np.testing.assert_allclose(predictor.predict(others), measured, rtol=0.02)
    low, high = predictor.interval(others)
    assert np.mean((low <= measured) & (measured <= high)) >= 0.9
    estimate = predictor.estimate(others[0])
    assert str(estimate.provenance.setting) == str(SETTING)
    assert estimate.low is not None and estimate.low < estimate.value


def test_the_fastest_network_is_exact(
    space: SearchSpace, parts: dict[str, LatencyPredictor], table: LatencyTable
) -> None:
    predictor = MixedPredictor.from_table(table, space, parts)
    architecture, milliseconds = predictor.minimum()
    assert predictor.predict([architecture])[0] == pytest.approx(milliseconds)
    sample = space.sample_genes(np.random.default_rng(0), 5000)
    assert milliseconds <= predictor.predict_genes(sample).min()


def test_more_measurements_make_another_predictor(
    space: SearchSpace, parts: dict[str, LatencyPredictor], table: LatencyTable
) -> None:
    predictor = MixedPredictor.from_table(table, space, parts)
    others = mixed_networks(space, np.random.default_rng(3), 10)
    pairs = [(space, item, 1.5 * float(predictor.predict([item])[0])) for item in others]
    again = predictor.calibrate(pairs)
    assert len(again.pairs) == len(predictor.pairs) + len(
        set(others) - {a for _, a, _ in predictor.pairs}
    )
    assert again.fingerprint != predictor.fingerprint
    assert again.predict(others).mean() > predictor.predict(others).mean()


def test_a_table_is_saved_and_read(
    space: SearchSpace,
    parts: dict[str, LatencyPredictor],
    table: LatencyTable,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("tables")
    loaded = LatencyTable.load(table.save(place))
    one, other = (MixedPredictor.from_table(item, space, parts) for item in (table, loaded))
    sample = space.sample_genes(np.random.default_rng(0), 50)
    np.testing.assert_allclose(one.predict_genes(sample), other.predict_genes(sample), rtol=1e-4)


def test_without_borders_the_command_that_measures_them_is_named(
    space: SearchSpace, parts: dict[str, LatencyPredictor], table: LatencyTable
) -> None:
    few = replace(table, networks=table.networks[:5])
    says = r"5 mixed networks.*nassearch profile --device box --runtime fake --precision mixed"
    with pytest.raises(MissingKeyError, match=says):
        MixedPredictor.from_table(few, space, parts)
    other = deployed_space(SearchSpace.load("digits_mini"), SETTING)
    with pytest.raises(MissingKeyError, match="0 mixed networks of the space digits_mini"):
        MixedPredictor.from_table(table, other, parts)


def test_a_runtime_that_mixes_nothing_says_so() -> None:
    with pytest.raises(RuntimeUnavailableError, match="does not run mixed"):
        mixable_precisions(Setting("box", "torch", MIXED))


def test_policies_are_drawn_with_many_and_with_few_borders(space: SearchSpace) -> None:
    borders = []
    for architecture in mixed_networks(space, np.random.default_rng(0), 64):
        policy = architecture.precisions
        assert policy is not None
        borders.append(sum(a != b for a, b in pairwise(policy)) / len(policy))
    assert min(borders) < 0.1
    assert max(borders) > 0.6
