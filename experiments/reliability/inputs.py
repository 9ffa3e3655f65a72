"""Files and command lines that are damaged or make no sense, each given to a command that reads it.

A trial changes one file of a copy of the workplace, or one word of a command line, and gives the
command in a forked child. It may be refused: exit code 2 and one line that names the file. It may
still be valid: exit code 0, and then the command that uses the file in earnest must hold as well.
Long work is cut off where it would begin, after all checks.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
from child import Outcome, limit_work, run, run_process
from mutations import bytes_of, csv_of, json_lines_of, json_of, words_of, yaml_of
from workplace import copy_of, export_in

from nassearch import cli

Mutation = Callable[[bytes, np.random.Generator], bytes]
HANGS = 10  # seconds of work
STARTS = 20  # more seconds of work for a process that must import everything
QUICK = ("describe", "list", "predict", "report", "export", "profile")
FIRST_OF_PROCESSES = 1_000_000  # so that they are none of the other trials
Give = Callable[[str | list[str], Path], Outcome]
ARCHITECTURE = "architecture.yaml"


@dataclass(frozen=True)
class Input:
    """A kind of file: where it lies, how it is changed, what reads it, what then uses it."""

    name: str
    path: str
    mutations: tuple[Mutation, ...]
    command: str
    use: str | None = None


PREDICT = "predict EXPORT --device box"
REPORT = "report runs/tiny --out page.html"
EXPORT = "export runs/tiny --pick knee --format config --out given --force"
SEARCH = "search --device box --supernet runs/tiny --budget 60% --trials 4 --out f"
INPUTS = (
    Input(
        "space",
        "mine.yaml",
        (yaml_of, yaml_of, bytes_of),
        "describe mine.yaml",
        "profile --device later --runtime fake --space mine.yaml --seconds 0.1 --out later",
    ),
    Input(
        "recipe",
        "recipe.yaml",
        (yaml_of, yaml_of, bytes_of),
        "train-supernet --recipe recipe.yaml --out again",
    ),
    Input(
        "latency table",
        "latency_tables/box/fake-fp32-b1-t1.csv",
        (csv_of, csv_of, bytes_of),
        PREDICT,
    ),
    Input(
        "networks of a table",
        "latency_tables/box/fake-fp32-b1-t1-networks.csv",
        (csv_of, csv_of, bytes_of),
        PREDICT,
    ),
    Input("device", "latency_tables/box/device.yaml", (yaml_of, bytes_of), PREDICT),
    Input(
        "architecture",
        ARCHITECTURE,
        (yaml_of, yaml_of, bytes_of),
        f"predict {ARCHITECTURE} --space digits_tiny --device box",
    ),
    Input("export's config", "EXPORT/config.yaml", (yaml_of, yaml_of, bytes_of), PREDICT),
    Input("imported table", "lut/16.yaml", (yaml_of, bytes_of), "profile --device n --import lut"),
    Input("run's recipe", "runs/tiny/recipe.yaml", (yaml_of, bytes_of), EXPORT),
    Input("evaluations", "runs/tiny/evaluations.jsonl", (json_lines_of, bytes_of), SEARCH),
    Input("metrics", "runs/tiny/metrics.jsonl", (json_lines_of, bytes_of), REPORT),
    Input("environment", "runs/tiny/environment.json", (json_of, bytes_of), REPORT),
    Input("search", "SEARCH/search.json", (json_of, json_of, bytes_of), REPORT),
    Input("candidates", "SEARCH/candidates.jsonl", (json_lines_of, bytes_of), REPORT),
    Input("conclusion", "SEARCH/conclusion.json", (json_of, bytes_of), REPORT),
    Input("picks", "SEARCH/picks.json", (json_of, json_of, bytes_of), REPORT),
    Input("measured front", "SEARCH/latency.json", (json_of, bytes_of), REPORT),
    Input("checkpoint", "runs/tiny/checkpoints/epoch-0002.pt", (bytes_of,), EXPORT),
)
LINES = (
    "describe digits_tiny --json",
    "list spaces --json",
    "predict EXPORT --device box --batch 1 --threads 1",
    "predict architecture.yaml --space digits_tiny --device box --runtime fake",
    "report runs/tiny --out page.html",
    "export runs/tiny --pick knee --format config,weights --out given --force",
    "train-supernet --space digits_tiny --data digits --epochs 1 --seed 3 --out again",
    "train-supernet --recipe recipe.yaml --set training.lr=0.1 --strategy sandwich --out again",
    "search --device box --supernet runs/tiny --budget 60% --budget params=20K --trials 4 --out f",
    "search --device box --supernet runs/tiny --objective loss --objective macs --seed 1 --out f",
    "finetune EXPORT --epochs 1 --lr 0.01 --out tuned",
    "profile --device n --import lut --runtime onnxruntime --precision fp32",
)


def prepare(workplace: Path, place: Path) -> Path:
    """A copy of the workplace, with the files that users write by hand."""
    from yaml import safe_dump, safe_load

    copy_of(workplace, place)
    shipped = Path(__file__).parents[2] / "search_spaces" / "digits_tiny.yaml"
    (place / "mine.yaml").write_bytes(shipped.read_bytes())
    architecture = safe_load((export_in(place) / "config.yaml").read_text())["architecture"]
    (place / ARCHITECTURE).write_text(safe_dump(architecture))
    return place


def trials(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    """Every kind in turn; every sixth trial is a command line."""
    warm_up(prepare(workplace, workplace.with_name("inputs")))
    place = prepare(workplace, workplace.with_name("inputs"))
    for number in range(count):
        if number % 6 == 5:
            yield number, lambda n=number: line_trial(n, LINES, place, forked)
        else:
            kind = INPUTS[(number - number // 6) % len(INPUTS)]
            yield number, lambda n=number, k=kind: file_trial(n, k, place, forked)


def processes(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    """The same in processes of their own, as users give them, of the commands that end soon."""
    place = prepare(workplace, workplace.with_name("processes"))
    give = partial(run_process, seconds=HANGS + STARTS)
    kinds = [kind for kind in INPUTS if kind.command.startswith(QUICK)]
    lines = [line for line in LINES if line.startswith(QUICK)]
    for number in range(count):
        first = FIRST_OF_PROCESSES + number
        if number % 6 == 5:
            yield number, lambda n=first: line_trial(n, lines, place, give)
        else:
            kind = kinds[(number - number // 6) % len(kinds)]
            yield number, lambda n=first, k=kind: file_trial(n, k, place, give)


def warm_up(place: Path) -> None:
    """Give every command once in this process, so that its forks inherit what it remembers."""
    here = Path.cwd()
    os.chdir(place)
    for command in dict.fromkeys(kind.command for kind in INPUTS):
        words = command.replace("EXPORT", str(export_in(place).relative_to(place))).split()
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), suppress(SystemExit):
            sys.argv = ["nassearch", *words]
            cli.main()
    os.chdir(here)


def file_trial(number: int, kind: Input, place: Path, give: Give) -> dict[str, object]:
    """Change a file, give it to its command, and put the file back."""
    rng = np.random.default_rng(number)
    (search,) = (place / "runs/tiny/search").glob("*/search.json")
    path = kind.path.replace("EXPORT", str(export_in(place).relative_to(place)))
    file = place / path.replace("SEARCH", str(search.parent.relative_to(place)))
    before = file.read_bytes()
    mutation = kind.mutations[rng.integers(len(kind.mutations))]
    command = kind.command.replace("EXPORT", str(export_in(place).relative_to(place)))
    try:
        file.write_bytes(mutation(before, rng))
        outcome = give(command, place)
        fault = _wrong(outcome)
        if fault is None and outcome.code == 0 and kind.use is not None:
            used = run(kind.use, place, timeout=60.0, before=cut_off_long_work)
            if used.code not in (0, 2) or used.has_traceback or used.hung:
                fault = f"accepted, and failed later: {used.code} {used.err[-600:]}"
    finally:
        file.write_bytes(before)
    named = file.name in outcome.err or file.parent.name in outcome.err
    line = {"case": kind.name, "mutation": mutation.__name__, "code": outcome.code}
    return line | {"named": named, "line": outcome.line[:300], "fault": fault}


def line_trial(number: int, lines: Sequence[str], place: Path, give: Give) -> dict[str, object]:
    """Change a word or two of a command line."""
    rng = np.random.default_rng(number)
    given = lines[rng.integers(len(lines))]
    words = given.replace("EXPORT", str(export_in(place).relative_to(place))).split()
    for _ in range(1 + int(rng.integers(2))):
        words = words_of(words, rng) or ["list"]
    outcome = give(words, place)
    line = {"case": "command line", "mutation": words_of.__name__, "code": outcome.code}
    given = " ".join(words)[:300]
    named = bool(outcome.line)
    line |= {"named": named, "line": outcome.line[:300], "fault": _wrong(outcome)}
    return line | ({"given": given} if line["fault"] else {})


def _wrong(outcome: Outcome) -> str | None:
    if outcome.hung:
        return f"nothing after {HANGS} s"
    if outcome.has_traceback:
        return f"a traceback: {outcome.err[-800:]}"
    if outcome.code not in (0, 2):
        return f"exit code {outcome.code}: {outcome.err[-300:]}"
    if outcome.code == 2 and not outcome.line:
        return "refused without a word"
    return None


def forked(command: str | list[str], place: Path) -> Outcome:
    return run(command, place, before=limited)


def limited() -> None:
    limit_work(HANGS)
    cut_off_long_work()


def cut_off_long_work() -> None:
    """Let what takes long end with 0 where it would begin: what is refused was refused before."""
    from nassearch.pipeline import finetune, search, train

    def stop(*_: object, **__: object) -> None:
        sys.exit(0)

    train.try_step = stop
    search.search = stop
    finetune.finetune = stop
