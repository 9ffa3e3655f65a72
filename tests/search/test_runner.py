"""The loop and its journal: nothing told is lost, whatever ends the search."""

import dataclasses
import errno
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from synthetic import Synthetic

from nassearch.errors import BudgetError, Interrupted, OutputError, SearchError
from nassearch.provenance import Estimate
from nassearch.search.algorithms.guided import Guided
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import Evaluate, ToBeat, measure, serial
from nassearch.search.journal import load_latest
from nassearch.search.pareto import ParetoFront
from nassearch.search.problem import Objective, Problem
from nassearch.search.runner import SearchPlan, search
from nassearch.space import Architecture

# Thirty candidates, each slow enough for a kill to come in between.
SLOW = textwrap.dedent("""
    import dataclasses, sys, time
    from pathlib import Path
    from synthetic import Synthetic
    from nassearch.search.runner import SearchPlan, search

    synthetic = Synthetic("digits_tiny")
    pause = float(sys.argv[2])
    def evaluate(architecture):
        time.sleep(pause)
        return synthetic.evaluate(architecture)
    problem = synthetic.problem(cost=900.0)
    accuracy = dataclasses.replace(problem.objectives[0], evaluate=evaluate)
    problem = dataclasses.replace(problem, objectives=(accuracy, *problem.objectives[1:]))
    search(problem, SearchPlan("random", trials=30, batch=3), out=Path(sys.argv[1]))
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
    return search(problem, SearchPlan("random", trials=trials, batch=3), out=out, resume=True)


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
    assert load_latest(tmp_path, space=synthetic.space).front.sorted() == front.sorted()


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
        search(problem, SearchPlan("random", trials=6), out=tmp_path, resume=True)
    search(problem, SearchPlan("nsga2", trials=6), out=tmp_path, resume=True)
    search(problem, SearchPlan("nsga2", trials=6), out=tmp_path)
    assert [len(lines(path)) for path in journals(tmp_path)] == [6, 6, 6, 6]


def test_a_nan_is_recorded_and_dropped(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    synthetic.nan_ids = {synthetic.space.smallest.id, synthetic.space.largest.id}
    front = search(synthetic.problem(), SearchPlan("guided", trials=12), out=tmp_path)
    (journal,) = journals(tmp_path)
    numbers = {
        record["architecture"]: record["values"]["accuracy"]["number"]
        for record in map(json.loads, lines(journal))
    }
    assert len(numbers) == 12
    assert {name for name, number in numbers.items() if number is None} == synthetic.nan_ids
    assert not synthetic.nan_ids & {candidate.architecture.id for candidate in front}
    before = synthetic.evaluations
    search(synthetic.problem(), SearchPlan("guided", trials=14), out=tmp_path, resume=True)
    assert synthetic.evaluations == before + 2


def test_a_search_with_nothing_but_nan_says_so(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    synthetic.nan_ids = {architecture.id for architecture in synthetic.space.enumerate()}
    with pytest.raises(SearchError, match="none of 5 candidates has finite numbers"):
        search(synthetic.problem(), SearchPlan("random", trials=5), out=tmp_path)


def test_an_unreachable_budget_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BudgetError):
        search(
            Synthetic("digits_tiny").problem(cost=1.0), SearchPlan("random", trials=5), out=tmp_path
        )
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_saves_the_front_so_far(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")

    def progress(stage: str, fraction: float, note: str = "") -> None:
        if round(20 * fraction) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(
            synthetic.problem(), SearchPlan("random", trials=20), out=tmp_path, progress=progress
        )
    assert len(load_latest(tmp_path, space=synthetic.space).front) >= 1
    assert len(lines(tmp_path / "search" / "candidates.csv")) == 1 + 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_keeps_the_candidate_under_way(
    number: signal.Signals, tmp_path: Path
) -> None:
    synthetic = Synthetic("digits_tiny")
    problem = synthetic.problem(cost=900.0)

    def evaluate(architecture: Architecture) -> Estimate:
        value = synthetic.evaluate(architecture)
        if synthetic.evaluations == 7:
            signal.raise_signal(number)
        return value

    accuracy = dataclasses.replace(problem.objectives[0], evaluate=evaluate)
    problem = dataclasses.replace(problem, objectives=(accuracy, *problem.objectives[1:]))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"^7 of 30 trials are in .*, --resume goes on$"):
        search(problem, SearchPlan("random", trials=30, batch=3), out=tmp_path)
    assert signal.getsignal(number) is before
    (journal,) = journals(tmp_path)
    assert len(lines(journal)) == synthetic.evaluations == 7
    assert len(lines(tmp_path / "search" / "candidates.csv")) == 1 + 7
    resume(tmp_path, synthetic)
    assert len(lines(journal)) == synthetic.evaluations == 30


def test_progress_counts_every_candidate_and_hypervolume_only_grows_within_a_budget(
    tmp_path: Path,
) -> None:
    shares: list[float] = []
    notes: list[re.Match[str]] = []

    def progress(stage: str, fraction: float, note: str = "") -> None:
        assert stage == "searching"
        shares.append(fraction)
        notes.append(re.fullmatch(r"(\d+)/25  front \d+  hypervolume (\S+)  best (\S+)%", note))

    problem = Synthetic("digits_tiny").problem(cost=900.0)
    search(problem, SearchPlan("random", trials=25), out=tmp_path, progress=progress)
    assert [round(25 * share) for share in shares] == list(range(1, 26))
    assert [int(note[1]) for note in notes] == list(range(1, 26))
    settled = [float(note[2]) for note in notes[5:]]
    assert settled == sorted(settled) and settled[-1] > 0
    best = [float(note[3]) for note in notes]
    assert best == sorted(best)


class Memory:
    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Estimate] = {}

    def get(self, objective: Objective, architecture: Architecture) -> Estimate | None:
        return self.held.get((objective.name, architecture.id))

    def put(self, objective: Objective, architecture: Architecture, value: Estimate) -> None:
        self.held[objective.name, architecture.id] = value


def test_a_second_search_pays_nothing_for_what_the_cache_holds(tmp_path: Path) -> None:
    synthetic, cache = Synthetic("digits_tiny"), Memory()
    for _ in range(2):
        search(
            synthetic.problem(),
            SearchPlan("random", trials=15),
            out=tmp_path,
            evaluate=serial(synthetic.problem(), cache=cache),
        )
    assert synthetic.evaluations == len(cache.held) == 15


def test_optuna_opens_the_search(tmp_path: Path) -> None:
    search(
        Synthetic("digits_tiny").problem(cost=900.0), SearchPlan("guided", trials=8), out=tmp_path
    )
    (path,) = (tmp_path / "search").glob("*/optuna.log")
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.load_study(study_name=path.parent.name, storage=storage)
    assert len(study.trials) == 8
    assert all(trial.constraints["cost"] <= 0 for trial in study.trials)
    assert set(study.trials[0].params) == {g.name for g in Synthetic("digits_tiny").space.genes}


def test_an_interruption_waits_while_optuna_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would cost Optuna its lock, and end in an error about that."""
    write, written = JournalFileBackend.append_logs, []

    def interrupted(backend: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        signal.raise_signal(signal.SIGINT)
        write(backend, logs)
        written.append(logs)

    problem, plan = Synthetic("digits_tiny").problem(), SearchPlan("random", trials=3)
    monkeypatch.setattr(JournalFileBackend, "append_logs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(problem, plan, out=tmp_path)
    assert written
    monkeypatch.setattr(JournalFileBackend, "append_logs", write)
    search(problem, plan, out=tmp_path, resume=True)
    (path,) = (tmp_path / "search").glob("*/optuna.log")
    storage = JournalStorage(JournalFileBackend(str(path)))
    assert len(optuna.load_study(study_name=path.parent.name, storage=storage).trials) == 3


def test_a_full_disk_that_optuna_meets_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    with pytest.raises(OutputError, match=r"optuna.log: the disk is full"):
        search(Synthetic("digits_tiny").problem(), SearchPlan("random", trials=3), out=tmp_path)


def test_a_front_of_another_space_or_of_nothing_is_refused(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    with pytest.raises(SearchError, match="no finished search"):
        load_latest(tmp_path, space=synthetic.space)
    search(synthetic.problem(), SearchPlan("random", trials=3), out=tmp_path)
    with pytest.raises(SearchError, match="not one of the space mobilenet_v3"):
        load_latest(tmp_path, space=Synthetic("mobilenet_v3").space)


def test_search_without_workers_imports_neither_ray_nor_torch(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from synthetic import Synthetic
        from nassearch.search.runner import SearchPlan, search
        plan = SearchPlan("guided", trials=24)
        search(Synthetic("digits_tiny").problem(), plan, out=Path({str(tmp_path)!r}))
        assert "ray" not in sys.modules and "torch" not in sys.modules
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_the_problem_is_frozen_into_the_journal(tmp_path: Path) -> None:
    problem: Problem = Synthetic("digits_tiny").problem(cost=900.0, seed=5)
    search(problem, SearchPlan("random", trials=3), out=tmp_path)
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


class Watched(Guided):
    """A user's algorithm, named by its path: it writes down when it was asked and told."""

    told_ids: ClassVar[list[str]] = []
    asked_knowing: ClassVar[list[int]] = []

    def ask(self, count: int) -> list[Architecture]:
        self.asked_knowing.append(len(self.told_ids))
        return super().ask(count)

    def tell(self, candidate: Candidate) -> None:
        self.told_ids.append(candidate.architecture.id)
        super().tell(candidate)


def test_workers_get_the_next_candidate_while_others_are_still_busy(tmp_path: Path) -> None:
    problem = Synthetic("digits_tiny").problem()
    plan = SearchPlan(f"{__name__}:Watched", trials=30, batch=4)
    search(problem, plan, out=tmp_path, evaluate=three_at_once(problem))
    assert len(Watched.told_ids) == len(set(Watched.told_ids)) == 30
    # the second four are asked for when two of the first are told: two are still being evaluated
    assert Watched.asked_knowing[:3] == [0, 2, 6]


def test_what_workers_are_busy_with_is_not_evaluated_again(tmp_path: Path) -> None:
    problem = Synthetic("digits_tiny").problem()
    ends = [problem.space.smallest, problem.space.largest]  # guided starts with these as well
    evaluate = three_at_once(problem)
    search(
        problem, SearchPlan("guided", trials=30, first=tuple(ends)), out=tmp_path, evaluate=evaluate
    )
    (journal,) = journals(tmp_path)
    evaluated = [json.loads(line)["architecture"] for line in lines(journal)]
    assert len(evaluated) == len(set(evaluated)) == 30


def test_given_candidates_are_told_and_on_the_front_but_are_no_trials(tmp_path: Path) -> None:
    synthetic = Synthetic("digits_tiny")
    problem = synthetic.problem(cost=900.0)
    best = list(search(problem, SearchPlan("guided", trials=30), out=tmp_path))
    evaluated = synthetic.evaluations
    again = search(problem, SearchPlan("random", trials=6, given=tuple(best)), out=tmp_path)
    assert synthetic.evaluations == evaluated + 6
    newest = max(journals(tmp_path), key=lambda path: path.stat().st_mtime)
    assert len(lines(newest)) == len(best) + 6
    assert {item.architecture for item in best} & {item.architecture for item in again}
    resumed = search(
        problem, SearchPlan("random", trials=8, given=tuple(best)), out=tmp_path, resume=True
    )
    assert synthetic.evaluations == evaluated + 8
    assert len(lines(newest)) == len(best) + 8
    assert len(resumed) >= 1


def test_a_candidate_that_cannot_reach_the_front_is_cut_short_and_not_cached(
    tmp_path: Path,
) -> None:
    synthetic, cache = Synthetic("digits_tiny"), Memory()
    asked: list[tuple[float, float]] = []

    def evaluate_early_stop(architecture: Architecture, at_least: float) -> Estimate:
        value = synthetic.evaluate(architecture)
        asked.append((value.value, at_least))
        return dataclasses.replace(value, stopped_early=value.value < at_least)

    problem = synthetic.problem()
    accuracy = dataclasses.replace(problem.objectives[0], evaluate_early_stop=evaluate_early_stop)
    problem = dataclasses.replace(problem, objectives=(accuracy, *problem.objectives[1:]))
    front = search(
        problem,
        SearchPlan("random", trials=40),
        out=tmp_path,
        evaluate=serial(problem, cache=cache),
    )
    hopeless = [number for number, at_least in asked if number < at_least]
    assert hopeless and len(cache.held) == 40 - len(hopeless)
    plain = search(synthetic.problem(), SearchPlan("random", trials=40), out=tmp_path / "plain")
    assert front.sorted() == plain.sorted()
