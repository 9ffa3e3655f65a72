"""Two to eight commands on one run at the same time.

Each must end as it does alone, or be refused in one line that names the other; what then lies there
is what it leaves alone, and where it was refused, it does so when it is given again.
"""

from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import kills
import numpy as np
from child import Running
from workplace import copy_of


def trials(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    """Every pair of commands, then groups of three to eight drawn at random."""
    pairs = list(combinations_with_replacement(kills.CASES, 2))
    for number in range(count):
        rng = np.random.default_rng([number, 3])
        size = 2 if number < len(pairs) else int(rng.integers(3, 9))
        drawn = [kills.CASES[index] for index in rng.integers(len(kills.CASES), size=size)]
        group = list(pairs[number]) if number < len(pairs) else drawn
        yield number, lambda g=group: trial(g, workplace)


def trial(group: list[kills.Case], workplace: Path) -> dict[str, object]:
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
