"""The loop and its journal: nothing told is lost, whatever ends the search."""

import dataclasses
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from synthetic import Synthetic

from nassearch.errors import BudgetError, SearchError
from nassearch.search.algorithms.guided import Guided
from nassearch.search.algorithms.optuna import NSGA2, Random
from nassearch.search.candidate import Candidate, ObjectiveValue, Problem
from nassearch.search.journal import load_front
from nassearch.search.pareto import ParetoFront
from nassearch.search.runner import Evaluate, ToBeat, measure, search
from nassearch.space import Architecture

# Thirty candidates, each slow enough for a kill to come in between.
SLOW = textwrap.dedent("""
    import dataclasses, sys, time
    from pathlib import Path
    from synthetic import Synthetic
    from nassearch.search.algorithms.optuna import Random
    from nassearch.search.runner import search

    synthetic = Synthetic("digits_tiny")
    pause = float(sys.argv[2])
    def evaluate(architecture):
        time.sleep(pause)
        return synthetic.evaluate(architecture)
    problem = synthetic.problem(cost=900.0)
    accuracy = dataclasses.replace(problem.objectives[0], evaluate=evaluate)
    problem = dataclasses.replace(problem, objectives=(accuracy, *problem.objectives[1:]))
    search(problem, algorithm=Random, trials=30, out=Path(sys.argv[1]), batch=3)
""")


def start(out: Path, pause: float) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, "-c", SLOW, str(out), str(pause)], env=environment)


def journals(out: Path) -> list[Path]:
    return sorted((out / "search").glob("*/candidates.jsonl"))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def resume(out: Path, synthetic: Synthetic, *, trials: int = 30) -> ParetoFront:
    problem = synthetic.problem(cost=900.0)
    return search(problem, algorithm=Random, trials=trials, out=out, batch=3, resume=True)


def test_a_killed_search_resumes_to_the_same_total(tmp_path: Path) -> None:
    process = start(tmp_path, 0.05)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (
        journals(tmp_path) and len(lines(journals(tmp_path)[0])) >= 5
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(lines(journals(tmp_path)[0]))
    assert 5 <= done < 30
    synthetic = Synthetic("digits_tiny")
    front = resume(tmp_path, synthetic)
    (journal,) = journals(tmp_path)
    identities = [json.loads(line)["architecture"] for line in lines(journal)]
    assert len(set(identities)) == len(identities) == 30
    assert synthetic.evaluations == 30 - done
    assert load_front(tmp_path, space=synthetic.space).sorted() == front.sorted()


def test_a_corrupt_line_is_skipped_reported_and_made_up_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic = Synthetic("digits_tiny")
    resume(tmp_path, synthetic, trials=10)
    (journal,) = journals(tmp_path)
    kept = lines(journal)
    kept[2] = kept[2][:30]
    kept[5] = '{"architecture": "00000000", "genes": [9], "values": {}}'
    journal.write_text("\n".join(kept) + "\n" + '{"architecture": "cut by a k')
    with caplog.at_level(logging.WARNING):
        resume(tmp_path, synthetic, trials=12)
    assert "3 corrupt line(s) skipped" in caplog.text
    good = [line for line in lines(journal) if line.endswith("}}}")]
    assert len(good) == 12


def test_two_searches_at_once_do_not_mix(tmp_path: Path) -> None:
    processes = [start(tmp_path, 0.01), start(tmp_path, 0.01)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert [len(lines(path)) for path in journals(tmp_path)] == [30, 30]
    for path in journals(tmp_path):
        assert all(json.loads(line)["values"] for line in lines(path))


def test_a_running_search_is_not_resumed_by_another_process(tmp_path: Path) -> None:
    process = start(tmp_path, 0.2)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not journals(tmp_path):
        time.sleep(0.01)
    with pytest.raises(SearchError, match="running in another process"):
        resume(tmp_path, Synthetic("digits_tiny"))
    process.kill()
    process.wait()


def test_other_settings_start_a_search_of_their_own(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    for limit in (900.0, 700.0):
        problem = synthetic.problem(cost=limit)
        search(problem, algorithm=Random, trials=6, out=tmp_path, resume=True)
    search(problem, algorithm=NSGA2, trials=6, out=tmp_path, resume=True)
    search(problem, algorithm=NSGA2, trials=6, out=tmp_path)
    assert [len(lines(path)) for path in journals(tmp_path)] == [6, 6, 6, 6]


def test_a_nan_is_recorded_and_dropped(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    synthetic.nan_ids = {synthetic.space.smallest.id, synthetic.space.largest.id}
    front = search(synthetic.problem(), algorithm=Guided, trials=12, out=tmp_path)
    (journal,) = journals(tmp_path)
    numbers = {
        record["architecture"]: record["values"]["accuracy"]["number"]
        for record in map(json.loads, lines(journal))
    }
    assert len(numbers) == 12
    assert {name for name, number in numbers.items() if number is None} == synthetic.nan_ids
    assert not synthetic.nan_ids & {candidate.architecture.id for candidate in front}
    before = synthetic.evaluations
    search(synthetic.problem(), algorithm=Guided, trials=14, out=tmp_path, resume=True)
    assert synthetic.evaluations == before + 2


def test_a_search_with_nothing_but_nan_says_so(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    synthetic.nan_ids = {architecture.id for architecture in synthetic.space.enumerate()}
    with pytest.raises(SearchError, match="none of 5 candidates has finite numbers"):
        search(synthetic.problem(), algorithm=Random, trials=5, out=tmp_path)


def test_an_unreachable_budget_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BudgetError):
        search(Synthetic("digits_tiny").problem(cost=1.0), algorithm=Random, trials=5, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_saves_the_front_so_far(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")

    def progress(*, done: int, **_: object) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(synthetic.problem(), algorithm=Random, trials=20, out=tmp_path, progress=progress)
    assert len(load_front(tmp_path, space=synthetic.space)) >= 1
    assert len(lines(tmp_path / "search" / "candidates.csv")) == 1 + 7


def test_progress_counts_every_candidate_and_hypervolume_only_grows_within_a_budget(
    tmp_path: Path,
) -> None:
    seen: list[tuple[int, int, float]] = []
    best: list[float] = []

    def progress(
        *, done: int, total: int, front_size: int, hypervolume: float, best: Candidate | None
    ) -> None:
        assert front_size >= 1 and best is not None
        seen.append((done, total, hypervolume))
        numbers.append(best.number("accuracy"))

    numbers = best
    problem = Synthetic("digits_tiny").problem(cost=900.0)
    search(problem, algorithm=Random, trials=25, out=tmp_path, progress=progress)
    assert [done for done, _, _ in seen] == list(range(1, 26))
    assert {total for _, total, _ in seen} == {25}
    settled = [volume for _, _, volume in seen[5:]]
    assert settled == sorted(settled) and settled[-1] > 0
    assert numbers == sorted(numbers)


class Memory:
    def __init__(self) -> None:
        self.held: dict[tuple[str, str], ObjectiveValue] = {}

    def get(self, objective: str, architecture: Architecture) -> ObjectiveValue | None:
        return self.held.get((objective, architecture.id))

    def put(self, objective: str, architecture: Architecture, value: ObjectiveValue) -> None:
        self.held[objective, architecture.id] = value


def test_a_second_search_pays_nothing_for_what_the_cache_holds(tmp_path: Path) -> None:
    synthetic, cache = Synthetic("digits_tiny"), Memory()
    for _ in range(2):
        search(synthetic.problem(), algorithm=Random, trials=15, out=tmp_path, cache=cache)
    assert synthetic.evaluations == len(cache.held) == 15


def test_optuna_opens_the_search(tmp_path: Path) -> None:
    search(Synthetic("digits_tiny").problem(cost=900.0), algorithm=Guided, trials=8, out=tmp_path)
    (path,) = (tmp_path / "search").glob("*/optuna.log")
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.load_study(study_name=path.parent.name, storage=storage)
    assert len(study.trials) == 8
    assert all(trial.constraints["cost"] <= 0 for trial in study.trials)
    assert set(study.trials[0].params) == {g.name for g in Synthetic("digits_tiny").space.genes}


def test_a_front_of_another_space_or_of_nothing_is_refused(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    with pytest.raises(SearchError, match="no finished search"):
        load_front(tmp_path, space=synthetic.space)
    search(synthetic.problem(), algorithm=Random, trials=3, out=tmp_path)
    with pytest.raises(SearchError, match="not one of the space mobilenet_v3"):
        load_front(tmp_path, space=Synthetic("mobilenet_v3").space)


def test_search_without_workers_imports_neither_ray_nor_torch(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from synthetic import Synthetic
        from nassearch.search.algorithms.guided import Guided
        from nassearch.search.runner import search
        search(Synthetic("digits_tiny").problem(), algorithm=Guided, trials=24,
               out=Path({str(tmp_path)!r}))
        assert "ray" not in sys.modules and "torch" not in sys.modules
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_the_problem_is_frozen_into_the_journal(tmp_path: Path) -> None:
    problem: Problem = Synthetic("digits_tiny").problem(cost=900.0, seed=5)
    search(problem, algorithm=Random, trials=3, out=tmp_path)
    (path,) = (tmp_path / "search").glob("*/search.json")
    held = json.loads(path.read_text())
    assert held["space"] == problem.space.fingerprint
    assert held["budgets"] == {"cost": 900.0}
    assert held["seed"] == 5


def three_at_once(problem: Problem) -> Evaluate:
    """Three workers who end in another order than they began."""

    def evaluate(architectures: Iterable[Architecture], *, to_beat: ToBeat) -> Iterator[Candidate]:
        coming, busy = iter(architectures), []
        while True:
            busy += itertools.islice(coming, 3 - len(busy))
            if not busy:
                return
            last = busy.pop()
            yield Candidate(last, measure(problem.quantities, last, cache=None))

    return evaluate


def test_workers_get_the_next_candidate_while_others_are_still_busy(tmp_path: Path) -> None:
    problem = Synthetic("digits_tiny").problem()
    told: list[str] = []
    asked_knowing: list[int] = []

    class Watched(Guided):
        def ask(self, count: int) -> list[Architecture]:
            asked_knowing.append(len(told))
            return super().ask(count)

        def tell(self, candidate: Candidate) -> None:
            told.append(candidate.architecture.id)
            super().tell(candidate)

    evaluate = three_at_once(problem)
    search(problem, algorithm=Watched, trials=30, out=tmp_path, batch=4, evaluate=evaluate)
    assert len(told) == len(set(told)) == 30
    # the second four are asked for when two of the first are told: two are still being evaluated
    assert asked_knowing[:3] == [0, 2, 6]


def test_what_workers_are_busy_with_is_not_evaluated_again(tmp_path: Path) -> None:
    problem = Synthetic("digits_tiny").problem()
    ends = [problem.space.smallest, problem.space.largest]  # guided starts with these as well
    evaluate = three_at_once(problem)
    search(problem, algorithm=Guided, trials=30, out=tmp_path, first=ends, evaluate=evaluate)
    (journal,) = journals(tmp_path)
    evaluated = [json.loads(line)["architecture"] for line in lines(journal)]
    assert len(evaluated) == len(set(evaluated)) == 30


def test_given_candidates_are_told_and_on_the_front_but_are_no_trials(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    problem = synthetic.problem(cost=900.0)
    best = list(search(problem, algorithm=Guided, trials=30, out=tmp_path))
    evaluated = synthetic.evaluations
    again = search(problem, algorithm=Random, trials=6, out=tmp_path, given=best)
    assert synthetic.evaluations == evaluated + 6
    newest = max(journals(tmp_path), key=lambda path: path.stat().st_mtime)
    assert len(lines(newest)) == len(best) + 6
    assert {one.architecture for one in best} & {one.architecture for one in again}
    resumed = search(problem, algorithm=Random, trials=8, out=tmp_path, given=best, resume=True)
    assert synthetic.evaluations == evaluated + 8
    assert len(lines(newest)) == len(best) + 8
    assert len(resumed) >= 1


def test_a_candidate_that_cannot_reach_the_front_is_cut_short_and_not_cached(
    tmp_path: Path,
) -> None:
    synthetic, cache = Synthetic("digits_tiny"), Memory()
    asked: list[tuple[float, float]] = []

    def evaluate_early_stop(architecture: Architecture, at_least: float) -> ObjectiveValue:
        value = synthetic.evaluate(architecture)
        asked.append((value.number, at_least))
        return dataclasses.replace(value, stopped_early=value.number < at_least)

    problem = synthetic.problem()
    accuracy = dataclasses.replace(problem.objectives[0], evaluate_early_stop=evaluate_early_stop)
    problem = dataclasses.replace(problem, objectives=(accuracy, *problem.objectives[1:]))
    front = search(problem, algorithm=Random, trials=40, out=tmp_path, cache=cache)
    hopeless = [number for number, at_least in asked if number < at_least]
    assert hopeless and len(cache.held) == 40 - len(hopeless)
    plain = search(synthetic.problem(), algorithm=Random, trials=40, out=tmp_path / "plain")
    assert front.sorted() == plain.sorted()
