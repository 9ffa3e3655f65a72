"""The tables and the plot of what `run.py train` recorded."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

HERE = Path(__file__).parent
MAIN = (
    "sandwich",
    "delayed-shrinking",
    "progressive-shrinking",
    "single-path",
    "in-turn",
    "sandwich-in-turn",
    "short-in-turn",
)
LESS = (
    "sandwich-40",
    "delayed-shrinking-40",
    "small-start-40",
    "single-path-40",
    "in-turn-40",
    "short-in-turn-40",
    "shorter-in-turn-40",
    "rarer-in-turn-40",
    "small-in-turn-40",
)
FEW = ("few-sandwich", "few-delayed-shrinking", "few-short-in-turn", "few-single-path")
LONG = ("long-delayed-shrinking", "long-short-in-turn", "long-single-path")


def report() -> None:
    rows = frame([json.loads(line) for line in (HERE / "results.jsonl").read_text().splitlines()])
    rows.to_csv(HERE / "results.csv", index=False, float_format="%.6g")
    halves = sorted(name for name in rows.condition.unique() if name.startswith("half"))
    alone = sorted(name for name in rows.condition.unique() if name.startswith("alone"))
    console = Console(width=200)
    for names in (MAIN, LESS, FEW, LONG, halves, alone):
        console.print(table(rows, [name for name in names if name in set(rows.condition)]))
        console.print()
    plot(rows)


def frame(results: list[dict[str, Any]]) -> pd.DataFrame:
    """One row for each run and network."""
    return pd.DataFrame(
        {
            "condition": result["condition"],
            "seed": result["seed"],
            "epochs": result["epochs"],
            "train_macs": result["train_macs"],
            **network,
        }
        for result in results
        for network in result["networks"]
    )


def table(rows: pd.DataFrame, names: list[str]) -> str:
    """Test accuracy in percent, mean ± deviation over seeds, for each size; Markdown."""
    shares = sorted(rows.share.unique())
    lines = [
        "| condition | seeds | epochs | 10^12 MACs | "
        + " | ".join(f"{share:.0%}" for share in shares)
        + " | mean |",
        "|" + "---|" * (5 + len(shares)),
    ]
    for name in names:
        own = rows[rows.condition == name]
        cells = [cell(own[own.share == share].test) for share in shares]
        mean = cell(own.groupby("seed").test.mean()) if own.share.nunique() > 1 else ""
        facts = f"{own.seed.nunique()} | {own.epochs.iloc[0]} | {own.train_macs.mean() / 1e12:.2f}"
        lines.append(f"| {name} | {facts} | " + " | ".join(cells) + f" | {mean} |")
    return "\n".join(lines)


def cell(values: pd.Series) -> str:
    if values.empty:
        return ""
    spread = f" ± {100 * values.std():.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{spread}"


def plot(rows: pd.DataFrame) -> None:
    """Accuracy against size, for the strategies at equal compute and the networks trained alone."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cifar10-strategies"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, names, title in (
        (axes[0], MAIN, "equal compute"),
        (axes[1], ("sandwich", *LESS), "40 % of it (sandwich: all of it)"),
    ):
        for name in names:
            own = rows[rows.condition == name].groupby("macs").test.agg(["mean", "std"])
            if len(own):
                axis.errorbar(
                    own.index / 1e6, 100 * own["mean"], 100 * own["std"], marker="o", label=name
                )
        alone = rows[rows.condition.str.startswith("alone")].groupby("macs").test.mean()
        axis.plot(alone.index / 1e6, 100 * alone, "kx", label="trained alone")
        axis.set(xlabel="multiply-accumulates of the subnet, 10^6", title=title)
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("CIFAR-10 test accuracy, %")
    figure.savefig(HERE / "accuracy.svg", metadata={"Date": None})
    pyplot.close(figure)
