"""Searches under the noise that validation has: how good is what was evaluated, returned, picked?

    python experiments/search-efficiency/noise.py search     # what noise.jsonl lacks; see --help
    python experiments/search-efficiency/noise.py report     # NOISE.md

Accuracies are those of a yardstick, with the binomial noise of so many validation images. What is
judged is the noise-free accuracy: of all networks evaluated, of the front that is *returned*, and
of the network that is *picked* within each of five budgets. Searches that were made before are not
made again. `--algorithm variants:Class` runs those of variants.py.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from landscape import Landscape, best_front
from noise_report import report
from truth import Truth, observed

from nassearch import files
from nassearch.objectives.measured import accuracy_estimate
from nassearch.search.algorithm import make_algorithm
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import measure
from nassearch.search.pareto import hypervolume, non_dominated
from nassearch.search.problem import Floats, Problem
from nassearch.search.runner import batch_after
from nassearch.space import Architecture
from nassearch.training.evaluation import Accuracy

HERE = Path(__file__).parent
RESULTS = HERE / "noise.jsonl"
BUDGET_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
LARGE = "large"
SPACE = "mobilenet_v3"
MARKS = {"table": (20, 30, 40, 50, 60, 80, 100, 120), LARGE: (20, 30, 40, 60, 80, 100, 120, 150)}
BUDGET_TRIALS = 60
AGAIN_FROM = 0.8  # of the trials, from where an algorithm may measure candidates again
More = Callable[[Candidate], Candidate]


class Yardstick(Protocol):
    """Something to search whose true accuracies are known."""

    def losses(self, architectures: Sequence[Architecture]) -> Floats: ...
    def best_losses(self) -> Floats: ...
    def reference(self) -> Floats: ...
    def problem(self, seed: int, *, limits: Sequence[float] = ()) -> Problem: ...


def yardstick(name: str, images: int | str | None, seed: int) -> Yardstick:
    if name == LARGE:
        assert not isinstance(images, str)
        return Landscape(SPACE, seed=seed, images=images)
    if images == "real":
        return Truth(name, as_measured=True)
    assert not isinstance(images, str)
    return Truth(name, images=images, seed=seed)


@lru_cache(maxsize=64)
def best(name: str, seed: int) -> tuple[Floats, Floats]:
    """The best losses known and the reference; of a landscape kept in a file, for it takes long."""
    one = yardstick(name, None, seed)
    if name != LARGE:
        return one.best_losses(), one.reference()
    path = Path(tempfile.gettempdir()) / f"nassearch-landscape-{SPACE}-{seed}.npy"
    if not path.is_file():
        assert isinstance(one, Landscape)
        np.save(path, best_front(one))
    return np.load(path), one.reference()


@dataclass
class Progress:
    """A search under way: what was evaluated, as it was observed."""

    algorithm: Any
    candidates: list[Candidate]
    trials: int = 0

    def believed(self) -> Floats:
        """The accuracy by which networks are chosen, (n,): the posterior mean where there is."""
        posterior = getattr(self.algorithm, "posterior", None)
        if getattr(self.algorithm, "returns_observed", False):
            posterior = None
        candidates = posterior.believed(self.candidates) if posterior else self.candidates
        return np.array([item.rank("accuracy") for item in candidates])


def drive(
    problem: Problem, algorithm: Any, trials: int, *, more: More | None
) -> Iterator[Progress]:
    """A search without journal or processes, batch by batch, as the runner makes it.

    Measuring a candidate on as many images more counts as a trial.
    """
    progress = Progress(algorithm, [])
    done = 0
    while done < trials:
        count = min(batch_after(done), trials - done)
        asked: list[Architecture] = []
        if more is not None and done >= AGAIN_FROM * trials and hasattr(algorithm, "again"):
            places = {item.architecture: at for at, item in enumerate(progress.candidates)}
            for architecture in algorithm.again(count):
                at = places[architecture]
                progress.candidates[at] = more(progress.candidates[at])
                algorithm.tell(progress.candidates[at])
                count, done = count - 1, done + 1
        if count:
            asked = algorithm.ask(count)
        for architecture in asked:
            values = measure(problem.quantities, architecture, cache=None)
            candidate = Candidate(architecture, values)
            algorithm.tell(candidate)
            progress.candidates.append(candidate)
        done += len(asked)
        if count and not asked:
            return
        progress.trials = done
        yield progress


def measured_more(stick: Yardstick, images: int) -> More:
    """Candidates with as many images more as they are measured on."""

    def more(candidate: Candidate) -> Candidate:
        before = candidate.values["accuracy"]
        seen = before.provenance.num_images
        assert seen is not None
        true = -float(stick.losses([candidate.architecture])[0, 0])
        found = observed(true, images, seed=10**6 + seen, name=candidate.architecture.id)
        right = round(before.value * seen + found.value * images)
        both = accuracy_estimate(Accuracy.of(right, seen + images, split="val"))
        return Candidate(candidate.architecture, {**candidate.values, "accuracy": both})

    return more


def one_search(one: dict[str, Any], make: Callable[[Problem], Any]) -> dict[str, Any]:
    """What a search found; see `wanted` for the keys of `one`."""
    name, seed = one["yardstick"], one["seed"]
    stick = yardstick(name, one["images"], seed)
    front, reference = best(name, seed)
    whole = hypervolume(front, reference)
    limits = np.quantile(_costs(name, stick), BUDGET_SHARES)
    problem = stick.problem(seed, limits=limits if one["budgets"] else ())
    marks = MARKS.get(name, MARKS["table"])
    trials = BUDGET_TRIALS if one["budgets"] else marks[-1]
    evaluated: list[float] = []
    returned: dict[int, float] = {}
    regrets: dict[int, list[float]] = {}
    seen: dict[int, list[float]] = {}
    started = time.process_time()
    seconds = 0.0
    more = None
    if one["budgets"] and isinstance(one["images"], int):
        more = measured_more(stick, one["images"])
    for progress in drive(problem, make(problem), trials, more=more):
        seconds += time.process_time() - started
        candidates = progress.candidates
        losses = stick.losses([item.architecture for item in candidates])
        for count in range(len(evaluated) + 1, len(candidates) + 1):
            evaluated.append(hypervolume(losses[:count], reference) / whole)
        passed = [mark for mark in marks if mark <= progress.trials and mark not in returned]
        if passed:
            believed = progress.believed()
            view = np.stack([-believed, losses[:, 1]], axis=1)
            returned[passed[-1]] = hypervolume(losses[non_dominated(view)], reference) / whole
            regrets[passed[-1]], seen[passed[-1]] = _regrets(front, losses, believed, limits)
        started = time.process_time()
    return {
        "evaluated": [round(each, 4) for each in evaluated],
        "returned": {mark: round(each, 4) for mark, each in returned.items()},
        "regrets": regrets,
        "best_seen": seen,
        "milliseconds": round(1000 * seconds / trials, 1),
    }


def _costs(name: str, stick: Yardstick) -> Floats:
    if isinstance(stick, Truth):
        return stick.costs
    assert isinstance(stick, Landscape)
    return stick.cost(stick.space.sample_genes(np.random.default_rng(0), 4000))


def _regrets(
    front: Floats, losses: Floats, believed: Floats, limits: Floats
) -> tuple[list[float], list[float]]:
    """What the pick within each limit, and the best evaluated, lack of the best; in points."""
    picked, seen = [], []
    for limit in limits:
        top = front[front[:, 1] <= limit, 0].min()
        within = np.flatnonzero(losses[:, 1] <= limit)
        if not len(within):
            picked.append(99.0)
            seen.append(99.0)
            continue
        pick = within[believed[within].argmax()]
        picked.append(round(100 * float(losses[pick, 0] - top), 3))
        seen.append(round(100 * float(losses[within, 0].min() - top), 3))
    return picked, seen


# -- which searches --------------------------------------------------------------------------------


def wanted(part: str, algorithm: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The searches of a part: a table's name, or `large`."""
    images: Sequence[int | str | None]
    images = (None, 2000, 10000) if part == LARGE else (None, 1000, 5000, 50000, "real")
    told = (False,) if part == LARGE else (False, True)
    return [
        {
            "algorithm": algorithm,
            "yardstick": part,
            "images": number,
            "budgets": budgets,
            "seed": seed,
        }
        for seed in seeds
        for budgets in told
        for number in images
    ]


def search(arguments: argparse.Namespace) -> None:
    results = arguments.results
    done = files.read_json_lines(results) if results.exists() else []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for part in arguments.part:
        for one in wanted(part, arguments.algorithm, seeds):
            if arguments.images and str(one["images"]) not in arguments.images:
                continue
            if arguments.budgets is not None and one["budgets"] != (arguments.budgets == "yes"):
                continue
            one = {**one, "algorithm": arguments.label or arguments.algorithm}
            if any(one.items() <= line.items() for line in done):
                continue
            found = one_search(one, maker(arguments.algorithm, arguments.options))
            files.append_json_line(results, {**one, **found})


def maker(name: str, options: str) -> Callable[[Problem], Any]:
    return lambda problem: make_algorithm(problem, name, options=json.loads(options))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["search", "report"])
    parser.add_argument("--part", nargs="*", default=["cifar10", "fashion", LARGE])
    parser.add_argument("--images", nargs="*", default=[])
    parser.add_argument("--budgets", choices=["yes", "no"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--algorithm", default="guided")
    parser.add_argument("--options", default="{}")
    parser.add_argument("--label", default="")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.what == "search":
        search(arguments)
    else:
        report(arguments.results, HERE / "NOISE.md")


if __name__ == "__main__":
    main()
