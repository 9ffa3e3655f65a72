"""The tables and the plot of what `run.py` recorded."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

HERE = Path(__file__).parent


def report() -> None:
    """Print the tables of README.md and draw front.svg."""
    lines = [json.loads(line) for line in (HERE / "results.jsonl").read_text().splitlines()]
    rows = {kind: pd.DataFrame([line for line in lines if line["kind"] == kind]) for kind in KINDS}
    console = Console(width=200)
    compute = rows["supernet"].train_macs
    console.print(
        f"N = {compute.mean():.3g} multiply-accumulates, {len(compute)} seeds,"
        f" {rows['supernet'].seconds.median():.0f} s of one core each (median)"
    )
    console.print(markdown(front(rows)), markup=False)
    console.print(markdown(trainings(rows["alone"])), markup=False)
    draw(front(rows))


KINDS = ("supernet", "alone", "latency", "searched")


def front(rows: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """For each budget the test accuracies, in percent, of what kept it: mean ± std over seeds."""
    table = []
    for _, latency in rows["latency"].sort_values("ms").iterrows():
        alone = rows["alone"].query("name == @latency['name'] and share == 0.2")
        searched = rows["searched"].query("name == @latency['name']")
        pair = alone.merge(searched, on="seed", suffixes=("_alone", ""))
        others = pair.others.map(lambda tests: np.mean(tests[1:]) if tests[1:] else math.nan)
        table.append(
            {
                "budget (ms)": f"{latency.ms:.3f}",
                "latency of": latency["name"],
                "alone, N/5": spread(pair.test_alone),
                "searched, N": spread(pair.test),
                "difference": spread(pair.test - pair.test_alone, sign=True),
                "mean random": spread(others),
                "uniform scaling": spread(pair.others.map(lambda tests: tests[0])),
                "searched MACs": f"{pair.macs.mean() / 1e6:.1f} M",
                "measured (ms)": f"{pair.measured_ms.mean():.3f}",
                "kept": f"{int(pair.kept.sum())} of {len(pair)}",
            }
        )
    return pd.DataFrame(table)


def trainings(alone: pd.DataFrame) -> pd.DataFrame:
    """What each hand-designed network was trained with, and reached."""
    groups = alone.groupby(["share", "name"], sort=False)
    return pd.DataFrame(
        {
            "share of N": share,
            "network": name,
            "MACs": f"{part.macs.iloc[0] / 1e6:.1f} M",
            "epochs x images": f"{part.epochs.iloc[0]} x {part.images.iloc[0]:,}",
            "validation": spread(part.val),
            "test": spread(part.test),
            "seconds": f"{part.seconds.median():.0f}",
        }
        for (share, name), part in groups
    )


def spread(values: pd.Series, *, sign: bool = False) -> str:
    """Percent, mean ± standard deviation over seeds; 'none' where there is no number."""
    values = values.dropna()
    if not len(values):
        return "none"
    mean = f"{100 * values.mean():{'+' if sign else ''}.1f}"
    return f"{mean} ± {100 * values.std():.1f}" if len(values) > 1 else mean


def markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def draw(table: pd.DataFrame) -> None:
    """Test accuracy over latency: searched networks, random ones, and those designed by hand."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cifar10-front"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    budgets = table["budget (ms)"].astype(float)
    for column, style in (("searched, N", "o-"), ("mean random", "^:"), ("alone, N/5", "s--")):
        parts = table[column].replace("none", "nan").str.split(" ± ", expand=True).astype(float)
        error = parts.get(1)
        axes.errorbar(budgets, parts[0], yerr=error, fmt=style, capsize=3, label=column)
    axes.set_xscale("log")
    axes.set_xlabel("latency budget, ms (ONNX Runtime, one thread)")
    axes.set_ylabel("CIFAR-10 test accuracy, %")
    axes.legend()
    figure.savefig(HERE / "front.svg", metadata={"Date": None})
