"""Evaluation on Ray: a dead worker loses nothing, a silent address is refused."""

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from synthetic import Synthetic

from nassearch.errors import ClusterError
from nassearch.provenance import Estimate, Provenance
from nassearch.search.runner import SearchPlan, search
from nassearch.search.workers import Measure, Workers
from nassearch.space import Architecture


@pytest.mark.slow
def test_killed_workers_lose_no_candidate(tmp_path: Path) -> None:
    def factory() -> Measure:
        import os
        import signal

        done = 0

        def measure(
            architecture: Architecture, to_beat: Mapping[str, float]
        ) -> dict[str, Estimate]:
            nonlocal done
            done += 1
            if done > 4:  # every worker dies in the middle of its fifth evaluation
                os.kill(os.getpid(), signal.SIGKILL)
            size = float(sum(len(stage.blocks) for stage in architecture.stages))
            names = ("accuracy", "cost", "choices")
            return {name: Estimate(size, Provenance("synthetic")) for name in names}

        return measure

    problem = Synthetic("digits_tiny").problem()
    with Workers(factory, workers=2) as workers:
        search(problem, SearchPlan("random", trials=12, batch=6), out=tmp_path, evaluate=workers)
    (journal,) = (tmp_path / "search").glob("*/candidates.jsonl")
    identities = [json.loads(line)["architecture"] for line in journal.read_text().splitlines()]
    assert len(set(identities)) == len(identities) == 12


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        yield held.getsockname()[1]


def test_an_address_that_does_not_answer_is_refused(closed_port: int) -> None:
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        Workers(dict, workers=2, address=f"127.0.0.1:{closed_port}")


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(ClusterError, match="write HOST:PORT or auto"):
        Workers(dict, workers=2, address="somewhere")
