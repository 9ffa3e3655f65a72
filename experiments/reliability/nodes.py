"""Nodes of a Ray cluster on this machine that are killed and added while a command uses them.

A trial gives a search or a training to two nodes of one core each, kills one or two of them at
random moments of the command's usual duration, and adds another for each a little later.
`speed` compares a search on two nodes with one on a single node, turn and turn about.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import kills
import numpy as np
from ray.cluster_utils import Cluster
from workplace import copy_of

from nassearch.objectives.objective import build
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.provenance import Estimate
from nassearch.search.workers import Measure, Workers
from nassearch.space import Architecture

NODES = 2
CASES = tuple(case for case in kills.CASES if case.name in ("search", "train-supernet"))
TWICE = 0.3  # of the trials kill a second node
LATEST_S = 5.0  # after a node was killed another is added
TIMEOUT_S = 300.0
ROUNDS = 5
EVALUATIONS = 40


class Nodes:
    """A cluster whose head works on nothing, and the nodes beside it."""

    def __init__(self, count: int = NODES) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(count)]
        self._cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def kill(self, place: int) -> None:
        self._cluster.remove_node(self._nodes.pop(place), allow_graceful=False)

    def add(self) -> None:
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def __enter__(self) -> "Nodes":
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.shutdown()


def trials(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    for number in range(count):
        case = CASES[number % len(CASES)]
        yield number, lambda n=number, c=case: trial(n, c, workplace)


def trial(number: int, case: kills.Case, workplace: Path) -> dict[str, object]:
    rng = np.random.default_rng([number, 6])
    usual, wanted = undisturbed(case, workplace)
    place = copy_of(workplace, workplace.with_name("trial"))
    moments = sorted(rng.uniform(0, usual, size=1 + int(rng.random() < TWICE)))
    with Nodes() as nodes:
        began = time.perf_counter()
        with _started(case, place, nodes) as process:
            for moment in moments:
                time.sleep(max(0.0, began + moment - time.perf_counter()))
                nodes.kill(int(rng.integers(NODES)))
                time.sleep(rng.uniform(0, LATEST_S))
                nodes.add()
            code, error = _end_of(process)
    fault = None
    if code not in (0, 3):
        fault = f"exit code {code}: {error[-600:]}"
    elif (found := case.result(place)) != wanted:
        fault = f"{found} where {wanted} was expected"
    elif len(set(done := case.kept(place))) != len(done):
        fault = "an evaluation was written down twice"
    killed = [f"{moment:.1f} s" for moment in moments]
    return {"case": case.name, "killed at": killed, "usual": round(usual, 1), "fault": fault}


@cache
def undisturbed(case: kills.Case, workplace: Path) -> tuple[float, object]:
    """How many seconds the command takes on nodes that stay, and its result."""
    place = copy_of(workplace, workplace.with_name(f"undisturbed-{case.name}-on-nodes"))
    with Nodes() as nodes:
        began = time.perf_counter()
        with _started(case, place, nodes) as process:
            code, error = _end_of(process)
    if code not in (0, 3):
        raise SystemExit(f"{case.command}: {error}")
    return time.perf_counter() - began, case.result(place)


def _started(case: kills.Case, place: Path, nodes: Nodes) -> subprocess.Popen[str]:
    """The command in a process of its own: Ray keeps threads, so this one may not fork."""
    command = [sys.executable, "-m", "nassearch", *kills.command_of(case, place).split()]
    command += ["--workers", str(NODES), "--ray-address", nodes.address]
    return subprocess.Popen(
        command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, error = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        _, error = process.communicate()
        return -1, f"no end after {TIMEOUT_S:.0f} s: {error}"
    return process.returncode, error


# -- two nodes against one -------------------------------------------------------------------------


def speed(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    """Evaluations a second on two nodes over those on one; the machine must be quiet."""
    for number in range(min(count, ROUNDS)):
        yield number, lambda n=number: compared(n, workplace)


def compared(number: int, workplace: Path) -> dict[str, object]:
    run = (workplace / "runs/tiny").resolve()
    rates = {}
    for count in (1, NODES) if number % 2 else (NODES, 1):
        with Nodes(count) as nodes:
            rates[count] = _rate(run, nodes.address, count)
    return {
        "case": "speed",
        "a second": {str(count): round(rate, 2) for count, rate in rates.items()},
        "ratio": round(rates[NODES] / rates[1], 3),
        "fault": None,
    }


def _rate(run: Path, address: str, workers: int) -> float:
    space = TrainedSupernet.load(run).space
    rng = np.random.default_rng(0)
    networks = [space.sample(rng) for _ in range(EVALUATIONS)]
    with Workers(lambda: _measure(run), workers=workers, address=address) as evaluate:
        # every worker has prepared its batches once it has seen both resolutions
        list(evaluate([space.smallest, space.largest] * 2 * workers, to_beat=lambda _: {}))
        began = time.perf_counter()
        done = list(evaluate(networks, to_beat=lambda _: {}))
        return len(done) / (time.perf_counter() - began)


def _measure(run: Path) -> Measure:
    """What a worker does: the accuracy, always measured."""
    import torch

    torch.set_num_threads(1)
    (accuracy,) = build("accuracy", TrainedSupernet.load(run).context(()))

    def measure(architecture: Architecture, to_beat: Mapping[str, float]) -> dict[str, Estimate]:
        return {"accuracy": accuracy.evaluate(architecture)}

    return measure


def ratios(lines: list[dict[str, Any]]) -> str:
    """The median of two nodes over one, with its range."""
    found = [line["ratio"] for line in lines if line["case"] == "speed"]
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f}, {len(found)} rounds)"
