"""The profiler: every block is covered, and what it measures adds up to whole networks."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nassearch.latency import profiler
from nassearch.latency.coverage import covering
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.profiler import ProfileSession, interpolate_missing, profile
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import reference_networks
from nassearch.runtimes.fake import FakeRuntime, fake_block_ms
from nassearch.setting import Setting
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
    for name in ("version", "date", "host", "protocol", "noise_floor", "standard_error", "stopped"):
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


def test_a_space_with_one_architecture_can_be_covered(rng: np.random.Generator) -> None:
    space = SearchSpace.from_dict(
        {"name": "one", "resolution": 8, "stages": [{"op": "conv", "width": 8, "kernel_size": 3}]}
    )
    assert covering(space, rng) == [space.smallest]


def test_what_a_network_sums_to_elsewhere_does_not_know_its_own_times(
    space: SearchSpace, table: LatencyTable
) -> None:
    collected = ProfileSession(space, table.setting, "any")
    first, second, third = (space.smallest, space.largest, *reference_networks(space)[2:3])
    for architecture, slower in ((first, 1.0), (second, 1.0), (third, 1.5)):
        specs = lower(space, architecture)
        total = slower * sum(map(fake_block_ms, specs))
        collected.whole_samples[architecture] = [np.full(6, total)]
        for spec in specs:
            taken = np.full(6, slower * fake_block_ms(spec))
            collected.samples.setdefault(spec.key, []).append((architecture, taken))
    others = {spec for one in (first, second) for spec in lower(space, one)}
    specs = lower(space, third)
    expected = sum((1.0 if spec in others else 1.5) * fake_block_ms(spec) for spec in specs)
    assert collected.leave_one_out_ms(third) == pytest.approx(expected)


def test_the_header_keeps_what_each_space_s_profile_reached(
    space: SearchSpace, table: LatencyTable, setting: Setting
) -> None:
    wider = SearchSpace.from_dict({**space.to_dict(), "resolution": [8, 16]})
    noisy = replace(table, facts={**table.facts, "noise_floor": 0.07, "interpolated": 3})
    both = noisy.profiled(space).merged(replace(table, facts={"noise_floor": 0.02}).profiled(wider))
    assert both.noise_floor(space) == 0.07
    assert both.noise_floor(wider) == 0.02
    assert both.noise_floor(SearchSpace.load("mobilenet_v3")) == 0.07
    assert both.facts["noise_floor"] == 0.02
    assert "interpolated" not in both.facts
    assert LatencyPredictor.from_table(both, space).noise_floor == 0.07


class Interrupted(Exception):
    """What a test throws where a user would press Ctrl-C."""


def test_an_interruption_keeps_the_groups_that_were_measured(
    space: SearchSpace, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "GROUP", 2)
    runtime = FakeRuntime(setting)
    kept: list[LatencyTable] = []

    def keep(table: LatencyTable) -> None:
        kept.append(table)
        if len(kept) == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        profile(
            space,
            setting,
            runtime=runtime,
            rng=np.random.default_rng(0),
            seconds=0.01,
            keep=keep,
        )
    first = len(kept[-1].networks)
    assert first <= len(reference_networks(space)) + 2
    done = {key for key, m in kept[-1].blocks.items() if m.source == "measured"}
    assert 0 < len(done) < len(block_specs(space))
    resumed = profile(
        space,
        setting,
        runtime=runtime,
        rng=np.random.default_rng(1),
        seconds=0.01,
        known=kept[-1],
    )
    resumed.require_space(space, block_specs(space))
    assert {m.source for m in resumed.blocks.values()} == {"measured"}
    assert len(resumed.networks) > first


def test_blocks_out_of_the_time_budget_are_interpolated_and_say_so(
    space: SearchSpace, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "GROUP", 3)
    table = profile(
        space,
        setting,
        runtime=FakeRuntime(setting),
        rng=np.random.default_rng(0),
        seconds=0.01,
        time_budget=1e-6,
    )
    table.require_space(space, block_specs(space))
    sources = Counter(m.source for m in table.blocks.values())
    assert sources["interpolated"] == table.facts["interpolated"] > 0
    assert len(table.networks) <= len(reference_networks(space)) + 3


def test_interpolated_blocks_are_as_close_as_the_header_says(
    table: LatencyTable, space: SearchSpace
) -> None:
    specs = block_specs(space)
    missing = {spec.key for spec in specs[2:-1:4]}
    partial = replace(table, blocks={k: m for k, m in table.blocks.items() if k not in missing})
    found = interpolate_missing(partial, specs)
    assert {key for key, m in found.blocks.items() if m.source == "interpolated"} == missing
    errors = [abs(found[k].median_ms / table[k].median_ms - 1) for k in missing]
    assert np.mean(errors) < 3 * found.facts["interpolation_error"] + 0.01
    assert found.facts["interpolation_error"] < 0.05


def test_a_large_space_is_measured_in_part_and_the_rest_filled_with_a_stated_error(
    setting: Setting,
) -> None:
    definition = SearchSpace.load("digits_tiny").to_dict()
    space = SearchSpace.from_dict({**definition, "resolution": [8, 10, 12, 14, 16]})
    chosen = covering(space, np.random.default_rng(0), limit=8)
    assert len(chosen) == 8
    seen = {spec for architecture in chosen for spec in lower(space, architecture)}
    assert len(seen) < len(block_specs(space))


def test_timing_stops_at_its_target_and_the_header_says_so(
    space: SearchSpace, setting: Setting
) -> None:
    def reached(**limits: float) -> tuple[str, float]:
        table = profile(
            space,
            setting,
            runtime=FakeRuntime(setting),
            rng=np.random.default_rng(0),
            **limits,
        )
        return table.facts["stopped"], table.facts["standard_error"]

    stopped, error = reached(seconds=1000, target_error=0.01)
    assert stopped == "target"
    assert error < 0.01
    assert reached(seconds=0.01, target_error=1e-9)[0] == "time"
