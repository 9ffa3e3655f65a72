"""The tables and plots of what bench.py recorded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from nassearch import files

HERE = Path(__file__).parent
MARKS = (20, 40, 60, 100, 150, 200, 300, 600)
console = Console(width=200)


def report() -> None:
    """Print every table and draw convergence.svg."""
    lines = files.read_json_lines(HERE / "results.jsonl")
    parts = {
        part: [line for line in lines if line["part"] == part]
        for part in ("enumerable", "large", "overhead", "settings", "twenty")
    }
    _enumerable(parts["enumerable"])
    _large(parts["large"])
    for line in parts["overhead"]:
        console.print(
            f"{line['algorithm']}: {line['milliseconds']:.0f} ms a candidate over 1,000; "
            f"by hundred {line['by_hundred']}"
        )
    for part in ("settings", "twenty"):
        _settings(parts[part])
    _plot(parts["enumerable"], parts["large"])


def _name(line: dict[str, Any]) -> str:
    told = line.get("told", "nothing")
    return line["algorithm"] + ("" if told == "nothing" else f", told {told}")


def _groups(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(_name(line), []).append(line)
    return groups


def _quartiles(numbers: Sequence[float], form: str) -> str:
    low, middle, high = np.percentile(numbers, (25, 50, 75))
    return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def _enumerable(lines: Sequence[dict[str, Any]]) -> None:
    console.print(
        "| algorithm | seeds | evaluations to 99 % | worst seed | regret after 60, points, "
        "five budgets | largest |\n|---|---|---|---|---|---|"
    )
    for name, group in _groups(lines).items():
        most = max(len(line["volumes"]) for line in group)
        reached = [line["reached"] or np.inf for line in group]
        never = sum(np.isinf(reached))
        found = _quartiles(np.minimum(reached, most), ".0f")
        note = f"; {never} not in {most}" if never else ""
        regrets = np.array([line["regrets"] for line in group])
        middle = ", ".join(f"{value:.2f}" for value in np.median(regrets, axis=0))
        console.print(
            f"| {name} | {len(group)} | {found}{note} | "
            f"{'-' if never else int(max(reached))} | {middle} | {regrets.max():.2f} |"
        )


def _large(lines: Sequence[dict[str, Any]]) -> None:
    for noise in (False, True):
        title = "with the noise of 2,000 images" if noise else "exact accuracies"
        console.print(
            f"\n{title}\n| algorithm | seeds | "
            + " | ".join(map(str, MARKS))
            + " |\n|"
            + "---|" * (2 + len(MARKS))
        )
        for name, group in _groups([one for one in lines if one["noise"] == noise]).items():
            cells = []
            for mark in MARKS:
                found = [
                    100 * line["volumes"][str(mark)]
                    for line in group
                    if str(mark) in line["volumes"]
                ]
                cells.append(_quartiles(found, ".1f") if found else "")
            console.print(f"| {name} | {len(group)} | " + " | ".join(cells) + " |")


def _settings(lines: Sequence[dict[str, Any]]) -> None:
    ratios = []
    for line in lines:
        dearest = max(each or np.inf for each in line["alone"])
        ratios.append((line["together"] or np.inf) / dearest)
        console.print(
            f"seed {line['seed']}: alone {line['alone']}, together {line['together']}, "
            f"ratio {ratios[-1]:.2f}"
        )
    if ratios:
        console.print(f"ratio: {_quartiles(ratios, '.2f')}")


def _plot(small: Sequence[dict[str, Any]], large: Sequence[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "search-efficiency"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), sharey=True, layout="constrained")
    for name, group in _groups(small).items():
        longest = max(len(line["volumes"]) for line in group)
        rows = [
            line["volumes"] + [line["volumes"][-1]] * (longest - len(line["volumes"]))
            for line in group
        ]
        low, middle, high = 100 * np.percentile(rows, (25, 50, 75), axis=0)
        shown = np.unique(np.geomspace(1, longest, 60).astype(int)) - 1
        count = shown + 1
        axes[0].plot(count, middle[shown], label=name)
        axes[0].fill_between(count, low[shown], high[shown], alpha=0.2)
    axes[0].axhline(99, color="grey", linewidth=0.8)
    axes[0].set(
        xscale="log",
        ylim=(70, 100.5),
        ylabel="hypervolume, % of the best known",
        title="3,528 networks of a supernet",
    )
    for axis, noise in ((axes[1], False), (axes[2], True)):
        for name, group in _groups([one for one in large if one["noise"] == noise]).items():
            counts = sorted(map(int, group[0]["volumes"]))
            rows = [[line["volumes"][str(count)] for count in counts] for line in group]
            low, middle, high = 100 * np.percentile(rows, (25, 50, 75), axis=0)
            axis.plot(counts, middle, marker="o", markersize=3, label=name)
            axis.fill_between(counts, low, high, alpha=0.2)
        axis.set(xscale="log", title="10^19 networks" + (", noisy" if noise else ""))
    for axis in axes:
        axis.set_xlabel("evaluations")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(HERE / "convergence.svg", metadata={"Date": None})
    pyplot.close(figure)
