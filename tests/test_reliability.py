"""A small campaign of experiments/reliability: kills, signals, damaged input, odd surroundings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[1] / "experiments" / "reliability" / "campaign.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaign forks")
@pytest.mark.parametrize(
    ("part", "count"), [("kills", 20), ("signals", 14), ("inputs", 500), ("company", 8)]
)
def test_a_small_campaign_finds_no_fault(part: str, count: int, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    places = ("--out", str(tmp_path / "out"), "--results", str(results))
    command = [sys.executable, str(CAMPAIGN), part, "--count", str(count), *places]
    subprocess.run(command, check=True, cwd=CAMPAIGN.parents[2])
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(lines) == count
    assert [line for line in lines if line["fault"]] == []
