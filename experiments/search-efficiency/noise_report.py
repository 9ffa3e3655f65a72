"""NOISE.md: the tables of what noise.py recorded, each figure marked reached or missed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from nassearch import files

Lines = Sequence[dict[str, Any]]
TABLES = ("cifar10", "fashion")
TITLES = {"cifar10": "CIFAR-10 (3,528)", "fashion": "Fashion-MNIST (3,456)", "large": "10^19"}
PEERS = ("plain GP", "qLogNEHVI", "Optuna's GP")
BESIDE = ("guided", "guided before", *PEERS, "taught by all")
NOT_TOLD = "guided, not told"
INTRODUCTION = """# Searches under the noise that validation has

Printed by `noise.py report` from `noise.jsonl`; `noise.py search` makes what that lacks. Accuracies
carry the binomial noise of so many validation images; `none` has none, and `real` tells the table's
accuracies as a search of that supernet sees them, measured on the same images for all. What is
judged is the noise-free accuracy. Medians over seeds, with how many.

Settings were chosen on the CIFAR-10 table and on landscapes 100 to 103. **On Fashion-MNIST nothing
was chosen; nor on landscapes 0 to 9, with one exception**: that the logarithm bends over the noise
was looked into after landscapes 0 to 3 had shown a loss, and the change, chosen on 100 to 103 and
CIFAR-10, was looked at on landscapes 0 and 1 before it was kept.

`guided before` is that of version 0.2. `plain GP` is a squared exponential over the same choices
and sizes with fitted noise and expected hypervolume improvement over the same pool and opening; its
front is that of its posterior mean too (`variants.py`). `qLogNEHVI` is BoTorch's, over a
`SingleTaskGP` that is told the noise, with opening and pool of `guided` (`botorch_peer.py`);
`Optuna's GP` is its `GPSampler`. `taught by all` is no peer but a limit: `guided` with a predictor
that knows the noise-free accuracies of all *other* networks of the table (`informed.py`); what even
that misses, the scatter of single networks hides.

Tried on 30 to 60 other seeds of CIFAR-10 and not kept (hints, for the searches are not kept
either): hyperparameters fitted until nothing moves, from two starts and after every tenth result
more (picks 0.03 ± 0.03 points better, 99 % 4 ± 3 evaluations sooner, for twice the time);
`SeparateOpening` (no better without noise); `BudgetsAlone` (picks 0.05 ± 0.04 points better, the
front five points worse).
"""


def report(results: Path, out: Path) -> None:
    """Write and print NOISE.md."""
    lines = files.read_json_lines(results)
    parts = [INTRODUCTION, *_figures(lines), *_fronts(lines), *_budgets(lines), *_parts(lines)]
    text = "\n".join(parts) + "\n"
    files.write_text(out, text)
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def of(lines: Lines, name: str, images: object, *, budgets: bool, algorithm: str) -> Lines:
    return [
        line
        for line in lines
        if (line["yardstick"], line["images"], line["budgets"], line["algorithm"])
        == (name, images, budgets, algorithm)
    ]


def reached(group: Lines, share: float) -> float:
    """The median of how many evaluations so much needs, of all evaluated; infinite: not there."""
    counts = [
        next((n for n, volume in enumerate(line["evaluated"], 1) if volume >= share), np.inf)
        for line in group
    ]
    return float(np.median(counts))


def returned(group: Lines, mark: int) -> float:
    """The median share, in %, of the front that is returned after so many."""
    return 100 * float(np.median([line["returned"][str(mark)] for line in group]))


def within(group: Lines, points: float) -> str:
    regrets = np.array([line["regrets"]["60"] for line in group])
    return f"{int((regrets <= points).sum())} of {regrets.size}"


# -- figures ---------------------------------------------------------------------------------------


def _figures(lines: Lines) -> list[str]:
    rows = ["## Figures", "", "| figure | target | measured | |", "|---|---|---|---|"]

    def row(figure: str, target: str, measured: str, by: float) -> None:
        mark = "**reached**" if by <= 0 else f"**missed** by {by:.3g}"
        mark = "**missed**, not there" if np.isinf(by) else mark
        rows.append(f"| {figure} | {target} | {measured} | {mark} |")

    for name in TABLES:
        exact = of(lines, name, None, budgets=False, algorithm="guided")
        noisy = of(lines, name, 5000, budgets=False, algorithm="guided")
        if not exact or not noisy:
            continue
        count = reached(exact, 0.99)
        title = TITLES[name]
        row(f"{title}: 99 %, no noise", "65", f"{count:g} ({len(exact)} seeds)", count - 65)
        share = returned(noisy, 120)
        text = f"{share:.1f} % ({len(noisy)} seeds)"
        row(f"{title}: returned after 120, 5,000 images", "97 %", text, 97 - share)
        for budget_images, points, least in ((None, 0.2, 1.0), (5000, 0.4, 0.9)):
            told = of(lines, name, budget_images, budgets=True, algorithm="guided")
            hits = float((np.array([one["regrets"]["60"] for one in told]) <= points).mean())
            label = "no noise" if budget_images is None else "5,000 images"
            row(
                f"{title}: picks of five budgets within {points} points after 60, {label}",
                f"{round(50 * least)} of 50",
                within(told, points),
                round(50 * (least - hits), 1),
            )
        for beside in PEERS:
            peer = of(lines, name, 5000, budgets=False, algorithm=beside)
            seeds = {one["seed"] for one in peer}
            same = [one for one in noisy if one["seed"] in seeds]
            for mark in (60, 120) if peer else ():
                ours, theirs = returned(same, mark), returned(peer, mark)
                row(
                    f"{title}: returned after {mark}, 5,000 images, beside {beside}",
                    f"{theirs:.1f} %",
                    f"{ours:.1f} % (the same {len(peer)} seeds)",
                    round(theirs - ours, 2),
                )
    for images, share, most in ((None, 0.95, 30), (None, 0.99, 120), (2000, 0.95, 80)):
        group = of(lines, "large", images, budgets=False, algorithm="guided")
        count = reached(group, share)
        label = "no noise" if images is None else "2,000 images"
        at = 100 * float(np.median([one["evaluated"][most - 1] for one in group]))
        text = f"{count:g}; {at:.1f} % after {most} ({len(group)} seeds)"
        row(f"10^19: {share:.0%}, {label}", str(most), text, count - most)
    group = of(lines, "large", 2000, budgets=False, algorithm="guided")
    share = returned(group, 150)
    text = f"{share:.1f} % ({len(group)} seeds)"
    row("10^19: returned after 150, 2,000 images", "92 %", text, 92 - share)
    return [*rows, ""]


# -- tables ----------------------------------------------------------------------------------------


def _fronts(lines: Lines) -> list[str]:
    rows = [
        "## Without budgets",
        "",
        "Share of the best hypervolume, in %, of all evaluated and of the front returned.",
        "",
        "| yardstick | images | algorithm | seeds | evaluations to 95, 97, 99 %"
        " | evaluated after 60 | after 120 | returned after 60 | after 120 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in (*TABLES, "large"):
        for images in (None, 50000, 10000, 5000, 2000, 1000, "real"):
            for algorithm in BESIDE:
                group = of(lines, name, images, budgets=False, algorithm=algorithm)
                if not group:
                    continue
                counts = [reached(group, share) for share in (0.95, 0.97, 0.99)]
                evaluated = [
                    100 * float(np.median([one["evaluated"][mark - 1] for one in group]))
                    for mark in (60, 120)
                ]
                rows.append(
                    f"| {TITLES[name]} | {images or 'none'} | {algorithm} | {len(group)} | "
                    + ", ".join("-" if np.isinf(count) else f"{count:g}" for count in counts)
                    + f" | {evaluated[0]:.1f} | {evaluated[1]:.1f} | {returned(group, 60):.1f}"
                    f" | {returned(group, 120):.1f} |"
                )
    return [*rows, ""]


def _budgets(lines: Lines) -> list[str]:
    rows = [
        "## Told five budgets, after 60 evaluations",
        "",
        "What the picked network and the best one evaluated lack of the best there is, in points."
        " *Not told*: a search for the front, of which the five are picked. The last column is the"
        " hypervolume of the whole front returned, in %.",
        "",
        "| yardstick | images | algorithm | seeds | picks within 0.2 | within 0.4 | mean | worst"
        " | best evaluated, mean | front |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in TABLES:
        for images in (None, 50000, 5000, 1000, "real"):
            for algorithm in (*BESIDE, "MeasuredAgain", "BudgetsAlone", NOT_TOLD):
                told = algorithm != NOT_TOLD
                searched = algorithm if told else "guided"
                group = of(lines, name, images, budgets=told, algorithm=searched)
                if not group:
                    continue
                picked = np.array([one["regrets"]["60"] for one in group])
                seen = np.array([one["best_seen"]["60"] for one in group])
                rows.append(
                    f"| {TITLES[name]} | {images or 'none'} | {algorithm} | {len(group)} |"
                    f" {within(group, 0.2)} | {within(group, 0.4)} | {picked.mean():.2f} |"
                    f" {picked.max():.2f} | {seen.mean():.2f} | {returned(group, 60):.1f} |"
                )
    return [*rows, ""]


def _parts(lines: Lines) -> list[str]:
    rows = [
        "## What each part brings",
        "",
        "`guided` without one part or with another (`variants.py`), on the same seeds: CIFAR-10"
        " with 5,000 images after 120, 10^19 with 2,000 images after 150; evaluated / returned, %.",
        "",
        "| | CIFAR-10 | guided, same seeds | 10^19 | guided, same seeds |",
        "|---|---|---|---|---|",
    ]
    known = {one["algorithm"] for one in lines if not one["budgets"]} - set(BESIDE)
    for algorithm in [*sorted(known), *PEERS[:1]]:
        cells = []
        for name, images, mark in (("cifar10", 5000, 120), ("large", 2000, 150)):
            group = of(lines, name, images, budgets=False, algorithm=algorithm)
            seeds = {one["seed"] for one in group}
            ours = of(lines, name, images, budgets=False, algorithm="guided")
            ours = [one for one in ours if one["seed"] in seeds]
            cells += [_both(group, mark), _both(ours, mark)]
        rows.append(f"| {algorithm} | " + " | ".join(cells) + " |")
    return rows


def _both(group: Lines, mark: int) -> str:
    if not group:
        return ""
    evaluated = 100 * float(np.median([one["evaluated"][mark - 1] for one in group]))
    return f"{evaluated:.1f} / {returned(group, mark):.1f} ({len(group)})"
