"""WHOLE_NETWORKS.md: the tables of whole_networks.jsonl, each figure marked reached or missed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from score import say
from whole_networks import HOW, RESULTS

from nassearch import files

Lines = Sequence[dict[str, Any]]
DEVICES = {
    "v100_64": "V100, batch 64",
    "v100_32": "V100, batch 32",
    "v100_1": "V100, batch 1",
    "2080ti_64": "2080 Ti, batch 64",
    "2080ti_32": "2080 Ti, batch 32",
    "2080ti_1": "2080 Ti, batch 1",
    "titanx_1": "Titan X, batch 1 (FBNet)",
    "1080ti_32": "1080 Ti, batch 32 (FBNet)",
    "essential_ph_1": "Essential phone (FBNet)",
    "samsung_s7": "Samsung S7 (FBNet)",
    "gold_6240": "Xeon Gold 6240 (FBNet)",
    "eyeriss": "Eyeriss (FBNet)",
}
TARGETS = {
    ("v100_64", 50): 0.8,
    ("v100_64", 200): 0.45,
    ("v100_64", 900): 0.35,
    ("2080ti_64", 50): 1.5,
    ("2080ti_64", 900): 1.1,
    ("titanx_1", 50): 0.6,
    ("titanx_1", 700): 0.45,
    ("eyeriss", 700): 0.02,
}  # percent
COVERS, COVERS_EXACT, EXACT = (86.0, 94.0), (86.0, 100.0), 0.05
"""What the mean cover has to lie within; and where errors, in percent, are rounding."""
INTRODUCTION = """# Latencies told from whole networks alone

Printed by `bench.py report` from `whole_networks.jsonl`; `bench.py networks`, `transfer` and
`ablation` make what that lacks (about half an hour of a core in all). OFA MobileNetV3 subnets
measured on two GPUs and FBNet networks on six devices (HayeonLee/HELP, MIT; HW-NAS-Bench, Li et
al., ICLR 2021); 1,000 and 300 networks are held out. Settings of the method were chosen on V100
batch 64 (1 to 4 splits); how transfer is weighed and networks are chosen, on the transfers below.
Everything else is reported only. Means over splits, the worst split in brackets; "covers" is the
share of held-out measurements inside the 90 % interval.
"""


def report(out: Path) -> None:
    """Write and print WHOLE_NETWORKS.md."""
    lines = files.read_json_lines(RESULTS)
    parts = [INTRODUCTION, *_scratch(lines), *_transfer(lines), *_cover(lines), *_ablation(lines)]
    text = "\n".join(parts) + "\n"
    files.write_text(out, text)
    say(text)


def _of(lines: Lines, **wanted: object) -> Lines:
    return [line for line in lines if wanted.items() <= line.items()]


def _error(line: dict[str, Any]) -> float:
    return 100 * float(np.mean(line["errors"]))


def _covers(line: dict[str, Any]) -> float:
    return 100 * float(np.mean(line["covers"]))


def _verdict(value: float, target: float) -> str:
    by = round(value - target, 2)
    return f"{target:g} %, **reached**" if by <= 0 else f"{target:g} %, missed by {by:g}"


def _cells(line: dict[str, Any]) -> str:
    worst, least = 100 * max(line["errors"]), 100 * min(line["covers"])
    return f"{_error(line):.2f} % ({worst:.2f} %) | {_covers(line):.1f} % ({least:.1f} %)"


def _scratch(lines: Lines) -> list[str]:
    rows = [
        "## From networks of the device itself",
        "",
        "| device | networks | splits | error (worst) | covers (lowest) | target |",
        "|---|---|---|---|---|---|",
    ]
    for column, title in DEVICES.items():
        for line in _of(lines, kind="scratch", column=column):
            target = TARGETS.get((column, line["count"]))
            mark = "" if target is None else _verdict(round(_error(line), 2), target)
            splits = len(line["errors"])
            rows.append(f"| {title} | {line['count']} | {splits} | {_cells(line)} | {mark} |")
    return [*rows, ""]


def _transfer(lines: Lines) -> list[str]:
    rows = [
        "## From another device and a few networks",
        "",
        "*Taken* is what the package takes: the transfer, a mixture or the networks alone. *Chosen*"
        " are networks that `most_telling` picks instead of drawn ones.",
        "",
        "| from, to | networks | draws | transfer alone | scratch | taken (worst) | covers (lowest)"
        " | chosen (worst) | covers (lowest) | whole, mixture, none |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    remarks = []
    for first in _of(lines, kind="transfer", how=HOW[0]):
        keys = {name: first[name] for name in ("kind", "source", "column", "count")}
        alone, scratch, taken, chosen = (_of(lines, **keys, how=how)[0] for how in HOW)
        title = f"{DEVICES[first['source']]} to {DEVICES[first['column']]}"
        shares = np.array(first["shares"])
        kinds = [
            int(kind.sum()) for kind in (shares == 1, (shares > 0) & (shares < 1), shares == 0)
        ]
        rows.append(
            f"| {title} | {first['count']} | {len(shares)} | {_error(alone):.2f} % |"
            f" {_error(scratch):.2f} % | {_cells(taken)} | {_cells(chosen)} |"
            f" {', '.join(map(str, kinds))} |"
        )
        if (first["source"], first["column"], first["count"]) == ("v100_64", "2080ti_64", 10):
            remarks.append(f"- {title} from ten: {_verdict(round(_error(taken), 2), 2.0)}.")
        elif first["count"] == 10:
            by = _error(taken) - _error(scratch)
            word = f"worse by {by:.2f} points" if by > 0 else f"better by {-by:.2f} points"
            remarks.append(f"- {title}: what is taken is {word} than scratch.")
        by = _error(chosen) - _error(taken)
        word = f"worse by {by:.2f} points" if by > 0 else f"better by {-by:.2f}"
        remarks.append(f"- {title}, {first['count']} chosen instead of drawn: {word}.")
    return [*rows, "", *remarks, ""]


def _cover(lines: Lines) -> list[str]:
    """Which cells keep what the interval promises."""
    cells = [*_of(lines, kind="scratch"), *_of(lines, kind="transfer", how="taken")]
    means = [(_covers(cell), _error(cell), cell) for cell in cells]
    off = []
    for cover, error, cell in means:
        low, high = COVERS if error > EXACT else COVERS_EXACT
        if not low <= round(cover, 1) <= high:
            off.append(f"{DEVICES[cell['column']]} from {cell['count']} {cover:.1f} %")
    tens = [cell for cell in _of(lines, kind="transfer", how="taken") if cell["count"] == 10]
    draws = np.concatenate([cell["covers"] for cell in tens]) if tens else np.zeros(0)
    rows = [
        "## The interval",
        "",
        f"- Mean cover within {COVERS[0]:g} to {COVERS[1]:g} %: {len(means) - len(off)} of"
        f" {len(means)} cells" + (f"; the others: {', '.join(off)}." if off else "."),
    ]
    if len(draws):
        share = 100 * float(np.mean(draws >= 0.7))
        mark = "**reached**" if share >= 95 else f"missed by {95 - share:.1f}"
        rows.append(
            f"- Single draws of ten networks that cover at least 70 %, transferred: {share:.0f} %"
            f" of {len(draws)} (target 95 %, {mark})."
        )
    return [*rows, ""]


def _ablation(lines: Lines) -> list[str]:
    names = list(dict.fromkeys(line["how"] for line in _of(lines, kind="ablation")))
    cells = list(dict.fromkeys((x["column"], x["count"]) for x in _of(lines, kind="ablation")))
    rows = [
        "## What each part brings",
        "",
        "The mean error without it, in percent, on the same splits.",
        "",
        "| device, networks | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for column, count in cells:
        found = [_of(lines, kind="ablation", column=column, count=count, how=how) for how in names]
        errors = [f"{_error(line[0]):.2f}" if line else "" for line in found]
        rows.append(f"| {DEVICES[column]}, {count} | " + " | ".join(errors) + " |")
    return rows
