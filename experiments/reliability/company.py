"""Two to eight commands on one run at the same time; two searches and whoever looks at them.

Each must end as it does alone, or be refused in one line that names the other; what then lies there
is what it leaves alone, and where it was refused, it does so when it is given again.
"""

from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from threading import Event, Thread

import kills
import numpy as np
from child import Running
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from workplace import copy_of

FIRST_WATCHED = 60  # trials before are of commands alone


def trials(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    """Every pair of commands, groups of three to eight drawn at random, then watched searches."""
    pairs = list(combinations_with_replacement(kills.CASES, 2))
    for number in range(count):
        if number >= FIRST_WATCHED:
            yield number, lambda: watched(workplace)
            continue
        rng = np.random.default_rng([number, 3])
        size = 2 if number < len(pairs) else int(rng.integers(3, 9))
        drawn = [kills.CASES[index] for index in rng.integers(len(kills.CASES), size=size)]
        group = list(pairs[number]) if number < len(pairs) else drawn
        yield number, lambda g=group: trial(g, workplace)


def trial(group: list[kills.Case], workplace: Path) -> dict[str, object]:
    """Give the commands of a group at once, and those that were refused once more."""
    wanted = {case: kills.undisturbed(case, workplace)[1] for case in group}
    place = copy_of(workplace, workplace.with_name("trial"))
    running = [Running(kills.command_of(case, place), place) for case in group]
    outcomes = [each.wait(600.0) for each in running]
    fault = None
    for case, outcome in zip(group, outcomes, strict=True):
        if outcome.hung or outcome.has_traceback or outcome.code not in (0, 2, 3):
            fault = fault or f"{case.name}: exit code {outcome.code}: {outcome.err[-600:]}"
    for case in dict.fromkeys(group):
        done = [
            outcome.code in (0, 3)
            for other, outcome in zip(group, outcomes, strict=True)
            if other is case
        ]
        if fault is None and not any(done):
            fault = kills.given_again(case, place, wanted[case], case.kept(place))
        elif fault is None and (found := case.result(place)) != wanted[case]:
            fault = f"{case.name}: {found} where {wanted[case]} was expected"
    names = [case.name for case in group]
    return {
        "case": "a pair" if len(group) == 2 else "three to eight",
        "commands": names,
        "codes": [outcome.code for outcome in outcomes],
        "lines": [outcome.line[:200] for outcome in outcomes if outcome.code == 2],
        "fault": fault,
    }


def watched(workplace: Path) -> dict[str, object]:
    """Two searches at once, whose Optuna studies are read all the while, as optuna-dashboard does.

    Optuna's journal is opened anew for each look, so that every look reads it from its beginning.
    """
    (case,) = (case for case in kills.CASES if case.name == "search")
    place = copy_of(workplace, workplace.with_name("trial"))
    running = [Running(kills.command_of(case, place), place) for _ in range(2)]
    looks, faults, over = 0, list[str](), Event()

    def look() -> None:
        nonlocal looks
        while not over.is_set():
            for path in place.glob("found/search/*/optuna.log"):
                try:
                    storage = JournalStorage(JournalFileBackend(str(path)))
                    for study in storage.get_all_studies():
                        looks += len(storage.get_all_trials(study._study_id)) > 0
                except Exception as error:
                    faults.append(f"a reader of Optuna's journal: {error!r}")

    thread = Thread(target=look)
    thread.start()
    outcomes = [each.wait(600.0) for each in running]
    over.set()
    thread.join()
    faults += [
        f"search: {one.code}: {one.err[-600:]}" for one in outcomes if one.code not in (0, 3)
    ]
    return {"case": "two, watched", "looks": looks, "fault": faults[0] if faults else None}
