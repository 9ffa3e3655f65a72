"""A profile as the terminal shows it."""

import pytest

from nassearch.cli.terminal import Bars, profile_notes
from nassearch.latency.table import LatencyTable
from nassearch.setting import Setting

FACTS = {"stopped": "time", "standard_error": 0.012, "target_error": 0.003, "noise_floor": 0.004}


def test_a_profile_says_what_ended_it_and_what_it_reached() -> None:
    notes = profile_notes(LatencyTable(Setting("box", "fake"), {}, facts=FACTS))
    assert notes == {"stopped": "time was up at a standard error of 1.20% (target 0.30%)"}


def test_a_machine_too_noisy_is_told() -> None:
    noisy = LatencyTable(Setting("box", "fake"), {}, facts={**FACTS, "noise_floor": 0.05})
    assert "something else ran on this machine" in profile_notes(noisy)["note"]


def test_what_is_interpolated_is_told_with_its_error() -> None:
    facts = {**FACTS, "interpolated": 66, "interpolation_error": 0.018}
    notes = profile_notes(LatencyTable(Setting("box", "fake"), {}, facts=facts))
    assert notes["interpolated"] == "66 blocks, cross-validated error 1.8%"


def test_where_stderr_is_no_terminal_a_line_comes_every_half_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = iter([0.0, 29.0, 30.0, 30.0, 59.0, 61.0, 61.0])
    with Bars(clock=lambda: next(now)) as bars:
        for percent in (1, 2, 3, 4):
            bars.stage("training", percent / 100, f"loss {percent}")
    assert capsys.readouterr().err.splitlines() == ["training 2%  loss 2", "training 4%  loss 4"]


def test_what_is_said_once_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(clock=lambda: 0.0) as bars:
        bars.stage("planning", 1.0, "2h: 37 epochs of about 3.1min")
        bars.stage("training", 0.5)
        bars.stage("training", 1.0)
    assert capsys.readouterr().err == "planning  2h: 37 epochs of about 3.1min\n"
