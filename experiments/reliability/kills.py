"""Commands that are killed, or asked to end, at random moments, and then given again.

A trial copies the workplace, gives a command, ends it at a random second of its usual duration or
just before a random one of its writes, gives the command again as its manual says (`--resume` where
it has that), and compares what then lies there with what a command left alone leaves.
"""

import hashlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from child import Ending, Outcome, run
from workplace import copy_of, export_in

import nassearch as ns
from nassearch import files

NOTHING_YET = ("there is no run to resume", "no search to resume", "nothing to resume")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TWICE = 0.2  # of the trials end the second attempt as well


@dataclass(frozen=True)
class Case:
    """A command, how it is given again after it ended early, and what its result is.

    `result` reads what must be equal; `kept` counts what a killed command had finished, which the
    next one must not do again or lose: a list of identities.
    """

    name: str
    command: str
    result: Callable[[Path], object]
    resumes: bool = False
    kept: Callable[[Path], list[str]] = lambda _: []


def _weights(run_directory: str) -> Callable[[Path], object]:
    def read(place: Path) -> object:
        state = ns.load_supernet(place / run_directory).supernet.state_dict()
        return _hash(b"".join(value.numpy().tobytes() for value in state.values()))

    return read


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _evaluated(place: Path) -> list[str]:
    """Every evaluation that was written down, in order."""
    lines = files.read_json_lines(place / "runs/tiny/evaluations.jsonl")
    return [
        " ".join(line[key] for key in ("objective", "source", "architecture")) for line in lines
    ]


def _candidates(place: Path) -> object:
    """How many networks it tried, each once; which ones a search that goes on draws anew."""
    table = pd.read_csv(place / "found" / "search" / "candidates.csv", comment="#")
    return len(table), table.architecture.is_unique


def _table(path: str) -> Callable[[Path], object]:
    def read(place: Path) -> object:
        (csv,) = [p for p in (place / path).glob("*.csv") if "networks" not in p.name]
        return sorted(pd.read_csv(csv, comment="#").key)

    return read


def _export(place: Path) -> object:
    return sorted(
        (
            path.name,
            _hash((path / "model.safetensors").read_bytes()),
            (path / "model.onnx").exists(),
        )
        for path in (place / "given").iterdir()
        if path.is_dir()
    )


def _tuned(place: Path) -> object:
    return _hash((place / "tuned" / "model.safetensors").read_bytes())


def _page(place: Path) -> object:
    return (place / "page.html").read_text().rstrip().endswith("</html>")


TRAIN = "train-supernet --recipe recipe.yaml --out again"
SEARCH = (  # no budget in time: a busy machine might keep it in a second round alone
    "search --device box --supernet runs/tiny --budget params=30K --objective accuracy"
    " --objective macs --algorithm random --trials 14 --out found"
)
CASES = (
    Case("train-supernet", TRAIN, _weights("again"), resumes=True),
    Case("search", SEARCH, _candidates, resumes=True, kept=_evaluated),
    Case(
        "profile",
        "profile --device new --runtime fake --space digits_tiny --seconds 1",
        _table("latency_tables/new"),
        resumes=True,
    ),
    Case("export", "export runs/tiny --pick all --format weights,onnx --out given", _export),
    Case("finetune", "finetune EXPORT --epochs 2 --out tuned", _tuned, resumes=True),
    Case("import", "profile --device note --import lut", _table("latency_tables/note")),
    Case("report", "report runs/tiny --out page.html", _page),
)


def trials(count: int, *, signals: bool) -> Iterator[tuple[int, Case]]:
    """The trials' numbers and cases: every command in turn."""
    for number in range(count):
        yield number, CASES[number % len(CASES)]


@cache
def undisturbed(case: Case, workplace: Path) -> tuple[Outcome, object]:
    """What the command gives when it is left alone."""
    place = copy_of(workplace, undisturbed_place(case, workplace))
    outcome = run(command_of(case, place), place)
    if outcome.code not in (0, 3):
        raise SystemExit(f"{case.command}: {outcome.err}")
    return outcome, case.result(place)


def undisturbed_place(case: Case, workplace: Path) -> Path:
    return workplace.with_name(f"undisturbed-{case.name}")


def trial(number: int, case: Case, workplace: Path, *, signals: bool) -> dict[str, object]:
    """End a command early, give it again, compare; `fault` says what was wrong, None if nothing."""
    rng = np.random.default_rng([number, signals])
    usual, wanted = undisturbed(case, workplace)
    place = copy_of(workplace, workplace.with_name("trial"))
    moments, codes, kept = [], [], case.kept(place)
    fault = None
    for attempt in range(1 + (rng.random() < TWICE)):
        ending = _ending(rng, usual, signals=signals)
        outcome = run(command_of(case, place, again=attempt > 0), place, ending=ending)
        moments.append(f"write {ending.write}" if ending.write else f"{ending.seconds:.2f} s")
        codes.append(outcome.code)
        fault = fault or _ended_badly(outcome, ending, signals=signals)
    had = case.kept(place)
    fault = fault or (None if had[: len(kept)] == kept else "an earlier evaluation was lost")
    fault = fault or given_again(case, place, wanted, had)
    return {
        "case": case.name,
        "signal": signal.Signals(ending.number).name,
        "ended at": moments,
        "codes": codes,
        "fault": fault,
    }


def _ending(rng: np.random.Generator, usual: Outcome, *, signals: bool) -> Ending:
    number = SIGNALS[rng.integers(len(SIGNALS))] if signals else signal.SIGKILL
    if rng.random() < 0.5:
        return Ending(number, write=int(rng.integers(1, usual.writes + 1)))
    return Ending(number, seconds=float(rng.uniform(0, usual.seconds)))


def _ended_badly(outcome: Outcome, ending: Ending, *, signals: bool) -> str | None:
    """What is wrong with how a command ended that was told to."""
    if outcome.hung:
        return "hung"
    if not signals:
        return None
    if outcome.has_traceback:
        return f"a traceback: {outcome.err[-600:]}"
    # it may have been done, or about to be refused, when the signal came
    early = ending.seconds is not None and ending.seconds < 0.1  # Python may not be listening yet
    if outcome.code not in (0, 3, 130) and not early:
        return f"exit code {outcome.code}: {outcome.line}"
    if outcome.code == 130 and not outcome.line.startswith("nassearch: interrupted"):
        return f"exit code 130 without its line: {outcome.line}"
    return None


def given_again(case: Case, place: Path, wanted: object, had: list[str]) -> str | None:
    """Give the command again; what is wrong with that, or with what then lies there."""
    outcome = run(command_of(case, place, again=True), place)
    if outcome.code == 2 and any(text in outcome.err for text in NOTHING_YET):
        outcome = run(command_of(case, place), place)  # it ended before anything was saved
    if outcome.code not in (0, 3):
        return f"given again: exit code {outcome.code}: {outcome.err[-600:]}"
    try:
        found = case.result(place)
    except Exception as error:
        return f"given again, its result cannot be read: {error!r}"
    if found != wanted:
        return f"given again, another result: {found} where {wanted} was expected"
    now = case.kept(place)
    if now[: len(had)] != had:
        return "an evaluation that was done is gone"
    if len(set(now)) != len(now):
        return "an evaluation was done twice"
    return None


def command_of(case: Case, place: Path, *, again: bool = False) -> str:
    command = case.command.replace("EXPORT", str(export_in(place).relative_to(place)))
    return command + " --resume" * (again and case.resumes)
