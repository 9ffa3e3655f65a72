"""What a search of a real supernet costs: workers, and evaluations that end early."""

import shutil
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from nassearch.latency.device import load_device
from nassearch.latency.target import load_target
from nassearch.objectives.objective import build
from nassearch.pipeline.evaluation_workers import evaluation
from nassearch.pipeline.pick import measure_front
from nassearch.pipeline.profile import profile_device, table_places
from nassearch.pipeline.search import SearchRequest, TrainedSupernet, search_supernet
from nassearch.provenance import Estimate
from nassearch.search.algorithms.guided import Guided
from nassearch.search.algorithms.optuna import Random
from nassearch.search.pareto import ParetoFront
from nassearch.search.problem import Objective, Problem
from nassearch.search.runner import SearchPlan, search
from nassearch.space import Architecture

TRIALS = 40
ROUNDS = 3
SHARES = ("20%", "35%", "50%", "65%", "80%")
PROFILE_SECONDS = 40.0
console = Console(width=160)


class Forgetful:
    """A cache that holds nothing, so that every evaluation is made."""

    def get(self, objective: str, architecture: Architecture) -> Estimate | None:
        return None

    def put(self, objective: str, architecture: Architecture, value: Estimate) -> None:
        pass


def run(directory: Path) -> None:
    """Two Ray workers against one, in turn; images looked at with and without early ends."""
    torch.set_num_threads(1)
    trained = TrainedSupernet.load(directory)
    with tempfile.TemporaryDirectory() as folder:
        speeds: dict[int, list[float]] = {1: [], 2: []}
        for number in range(ROUNDS):
            for workers, found in speeds.items():
                found.append(_rate(directory, trained, workers, number, Path(folder)))
        for workers, found in speeds.items():
            console.print(
                f"{workers} worker(s): " + ", ".join(f"{one:.2f}" for one in found) + " /s"
            )
        ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
        console.print("two against one: " + ", ".join(f"{ratio:.2f}" for ratio in ratios))
        for seed in range(ROUNDS):
            _early_ends(trained, seed, Path(folder))


def budgets(directory: Path) -> None:
    """Search this machine within budgets and measure what comes back once more.

    Profiles the machine into the run first. Accuracies known already cost nothing.
    """
    trained = TrainedSupernet.load(directory)
    device = load_device("host")
    setting = device.setting(runtime=None, precision=None, batch=None, threads=None)
    tables = directory / "latency_tables"
    profile_device(trained.space, setting, tables, seconds=PROFILE_SECONDS)
    target = load_target(trained.space, device, setting, places=table_places(directory))
    for share in SHARES:
        request = SearchRequest(budgets=(share,), plan=SearchPlan(trials=TRIALS))
        with tempfile.TemporaryDirectory() as folder:
            outcome = search_supernet(trained, [target], request, out=Path(folder))
        (pick,) = outcome.picks
        (latency,) = pick.latency
        front = ParetoFront(outcome.front.axes, [pick.candidate])
        (again,) = measure_front(front, trained, [target]).values()
        assert latency.measured_ms is not None and latency.budget_ms is not None
        console.print(
            f"{share}: budget {latency.budget_ms:.4f} ms, measured"
            f" {latency.measured_ms / latency.budget_ms:.1%} of it, again"
            f" {again.ms / latency.budget_ms:.1%} (noise {again.noise_floor:.1%}),"
            f" accuracy {pick.candidate.number('accuracy'):.2%}"
        )


def _rate(
    directory: Path, trained: TrainedSupernet, workers: int, seed: int, folder: Path
) -> float:
    """Evaluations a second of a random search, without the workers' start."""
    context = trained.context(())
    quantities = [one for name in ("accuracy", "macs") for one in build(name, context)]
    problem = Problem(trained.space, tuple(quantities), seed=seed)
    own = folder / f"{workers}-{seed}"
    own.mkdir()
    with evaluation(trained, problem, Forgetful(), workers=workers, address=None) as evaluate:
        # every worker has prepared its batches once it has seen both resolutions
        ends = [trained.space.smallest, trained.space.largest]
        list(evaluate(ends * 2 * workers, to_beat=lambda _: {}))
        start = time.perf_counter()
        search(
            problem, SearchPlan("random", trials=TRIALS, batch=TRIALS), out=own, evaluate=evaluate
        )
        seconds = time.perf_counter() - start
    shutil.rmtree(own)
    return TRIALS / seconds


def _early_ends(trained: TrainedSupernet, seed: int, folder: Path) -> None:
    """The share of validation images looked at, and what the front loses."""
    (accuracy,) = build("accuracy", trained.context(()))
    (macs,) = build("macs", trained.context(()))
    images = 0

    def counted(architecture: Architecture, at_least: float) -> Estimate:
        nonlocal images
        value = accuracy.evaluate_early_stop(architecture, at_least)
        images += value.provenance.num_images or 0
        return value

    for algorithm in (Guided, Random):
        images = 0
        one = Objective("accuracy", "max", "", accuracy.evaluate, evaluate_early_stop=counted)
        problem = Problem(trained.space, (one, macs), seed=seed)
        search(
            problem, SearchPlan(algorithm, trials=60), out=folder / f"{algorithm.__name__}{seed}"
        )
        share = images / (60 * trained.evaluator.num_images)
        console.print(
            f"{algorithm.__name__} seed {seed}: {share:.1%} of the images of 60 candidates"
        )
