"""Try nassearch at hundreds of random moments and inputs, and count what went wrong.

    python experiments/reliability/campaign.py kills [--count 200] [--out runs/reliability]
    python experiments/reliability/campaign.py report

Each trial is a line of results.jsonl; one that stands there is not tried again, so that a campaign
that was interrupted goes on where it was. `all` runs every part. Trials derive from their number.
`fold` sums the thousands of bad inputs, once none of them finds a fault, to a line for each case.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import company
import disks
import growth
import inputs
import kills
import nodes
import pandas as pd
import surroundings
import torch
from child import import_all
from rich.console import Console
from workplace import make_workplace

from nassearch import files

HERE = Path(__file__).parent
COUNTS = {
    "kills": 200,
    "signals": 100,
    "inputs": 20_000,
    "processes": 300,
    "disks": 100,
    "company": 66,
    "surroundings": 1000,  # every command under each of them
    "growth": 1000,  # all sizes
    "nodes": 30,
    "speed": 1000,  # all rounds
}

OF_INPUTS = ("inputs", "processes")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["all", *COUNTS, "report", "fold"])
    parser.add_argument("--count", type=int, help="of trials, instead of the campaign's own")
    parser.add_argument("--out", type=Path, default=Path("runs/reliability"))
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    if arguments.part == "report":
        console.print(markdown(counts(arguments.results)), markup=False)
        if len(answers := answered(arguments.results)):
            console.print("\n" + markdown(answers), markup=False)
        if len(long_work := grown(arguments.results)):
            console.print("\n" + markdown(long_work), markup=False)
        if speeds := [line for line in lines(arguments.results) if line["part"] == "speed"]:
            console.print(
                f"\nA search on two nodes over one on a single node: {nodes.ratios(speeds)}"
            )
        return
    if arguments.part == "fold":
        fold(arguments.results)
        return
    import_all()
    out = files.make_directory(arguments.out.resolve())
    for part in COUNTS if arguments.part == "all" else [arguments.part]:
        known = [line for line in lines(arguments.results) if line["part"] == part]
        done = {line.get("number") for line in known}
        folded = max((line.get("first_trials", 0) for line in known), default=0)
        for number, attempt in PARTS[part](arguments.count or COUNTS[part], out):
            if number < folded or number in done:
                continue
            line = {"part": part, "number": number, **attempt()}
            files.append_json_line(arguments.results, line)
            if line["fault"]:
                console.print(line, style="red", markup=False)
            elif number % 100 == 0:
                console.print(f"{part}: {number}")


Trials = Iterator[tuple[int, Callable[[], dict[str, Any]]]]


def ended(count: int, out: Path, *, signals: bool) -> Trials:
    workplace = make_workplace(out / "workplace")
    for number, case in kills.trials(count, signals=signals):
        yield number, lambda n=number, c=case: kills.trial(n, c, workplace, signals=signals)


PARTS: dict[str, Callable[[int, Path], Trials]] = {
    "kills": lambda count, out: ended(count, out, signals=False),
    "signals": lambda count, out: ended(count, out, signals=True),
    "inputs": lambda count, out: inputs.trials(count, make_workplace(out / "workplace")),
    "processes": lambda count, out: inputs.processes(count, make_workplace(out / "workplace")),
    "disks": lambda count, out: disks.trials(count, make_workplace(out / "workplace")),
    "company": lambda count, out: company.trials(count, make_workplace(out / "workplace")),
    "growth": lambda count, out: growth.trials(count, make_workplace(out / "workplace")),
    "surroundings": lambda count, out: surroundings.trials(
        count, make_workplace(out / "workplace")
    ),
    "nodes": lambda count, out: nodes.trials(count, make_workplace(out / "workplace")),
    "speed": lambda count, out: nodes.speed(count, make_workplace(out / "workplace")),
}


def lines(results: Path) -> list[dict[str, Any]]:
    return files.read_json_lines(results)


def fold(results: Path) -> None:
    """Replace the lines of bad inputs by sums; an error where one is missing or found a fault."""
    known = lines(results)
    kept = [line for line in known if line["part"] not in OF_INPUTS or "number" not in line]
    for part in OF_INPUTS:
        single = [line for line in known if line["part"] == part and "number" in line]
        if {line["number"] for line in single} != set(range(len(single))):
            raise SystemExit(f"some {part} have not been tried")
        if any(line["fault"] for line in single):
            raise SystemExit(f"some {part} found a fault")
        if single:
            kept += [
                {"part": part, "case": case, "first_trials": len(single), "fault": None}
                | numbers(of)
                for case, of in pd.DataFrame(single).groupby("case", sort=False)
            ]
    files.write_text(results, "".join(json.dumps(line) + "\n" for line in kept))


def numbers(trials: pd.DataFrame) -> dict[str, int]:
    """Of trials of bad inputs: all, those still valid, those refused, those refused by name."""
    refused = trials[trials.code == 2]
    valid, named = int((trials.code == 0).sum()), int(refused.named.sum())
    return {"trials": len(trials), "valid": valid, "refused": len(refused), "named": named}


def counts(results: Path) -> pd.DataFrame:
    """For each part and case: how often it was tried, and how often something was wrong."""
    rows = pd.DataFrame({"trials": 1} | line for line in lines(results))
    groups = rows.groupby(["part", "case"], sort=False)
    return pd.DataFrame(
        {
            "part": part,
            "case": case,
            "trials": int(of.trials.sum()),
            "faults": int(of.fault.notna().sum()),
        }
        for (part, case), of in groups
    )


def answered(results: Path) -> pd.DataFrame:
    """Bad inputs: how many were still valid, how many refused, and how many of these by name."""
    rows = [line for line in lines(results) if line["part"] in OF_INPUTS]
    single = pd.DataFrame(line for line in rows if "number" in line)
    sums = [line for line in rows if "number" not in line]
    if len(single):
        sums += [{"part": part} | numbers(of) for part, of in single.groupby("part", sort=False)]
    if not sums:
        return pd.DataFrame()
    added = pd.DataFrame(sums).groupby("part")[["trials", "valid", "refused", "named"]].sum()
    added["named"] = (added.named / added.refused).map("{:.1%}".format)
    return added.reset_index().rename(
        columns={"valid": "still valid", "named": "of them the file is named"}
    )


def grown(results: Path) -> pd.DataFrame:
    """Long work: its time and its memory for each size."""
    rows = [line for line in lines(results) if line["part"] == "growth"]
    return pd.DataFrame(
        {
            "work": line["case"],
            "size": f"{line['size']:,}",
            "seconds of a core": f"{line['work']:.1f}",
            "more memory (MiB)": f"{line['mebibytes']:.0f}",
        }
        for line in rows
    )


def markdown(table: pd.DataFrame) -> str:
    found = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in found)


if __name__ == "__main__":
    main()
