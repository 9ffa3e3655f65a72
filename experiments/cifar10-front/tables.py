"""The tables and the plot of what `run.py` recorded."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

KINDS = ("supernet", "alone", "latency", "searched", "others", "tuned", "strategy", "flagship")
KINDS += ("flagship-alone",)
DEFAULT = "growing"  # the package's default strategy
KEYS = ["runtime", "precision", "name", "seed"]


def report(results: Path) -> None:
    """Print the tables that there are results for, and draw their front beside them."""
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    rows = {kind: pd.DataFrame([line for line in lines if line["kind"] == kind]) for kind in KINDS}
    console = Console(width=250)
    compute = rows["supernet"].train_macs
    console.print(
        f"N = {compute.mean():.3g} multiply-accumulates, {len(compute)} seeds,"
        f" {rows['supernet'].seconds.median():.0f} s of one core each (median)"
    )
    tables = []
    if len(rows["searched"]):
        main = front(rows)
        draw(main.query("setting == @main.setting[0]"), results.with_suffix(".svg"))
        tables += [figures(main, rows), main]
    for kind, table in (("alone", trainings), ("strategy", strategies)):
        if len(rows[kind]):
            tables.append(table(rows[kind]))
    if len(rows["flagship"]):
        tables.append(flagship(rows))
    for each in tables:
        console.print(markdown(each), markup=False)


def front(rows: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """For each budget the test accuracies, in percent, of what kept it: mean ± std over seeds."""
    table = []
    searched = rows["searched"]
    for kind in ("others", "tuned"):
        wanted = [*KEYS, *COLUMNS[kind]]
        more = rows[kind][wanted] if len(rows[kind]) else pd.DataFrame(columns=wanted)
        searched = searched.merge(more.rename(columns=NEW), on=KEYS, how="left")
    for _, found in rows["latency"].sort_values(["precision", "runtime", "ms"]).iterrows():
        pairs = searched.query(
            "name == @found['name'] and runtime == @found.runtime and precision == @found.precision"
        )
        alone = rows["alone"].query("name == @found['name']")
        part = {share: alone.query("share == @share") for share in (0.2, 1.0)}
        pair = part[0.2].merge(pairs, on="seed", suffixes=("_alone", ""))
        if not len(pair):
            continue
        row = {"setting": f"{found.runtime} {found.precision}", "budget (ms)": f"{found.ms:.3f}"}
        row |= {"latency of": found["name"], "alone, N/5": spread(pair.test_alone)}
        row |= {"searched, N": spread(pair.test)}
        row |= {"difference": spread(pair.test - pair.test_alone, sign=True)}
        row |= {"fine-tuned, N/20": spread(pair.test_tuned), "alone, N": spread(part[1.0].test)}
        row |= {
            "alone as good with": caught_up(part[1.0].merge(pair, on="seed", suffixes=("_all", "")))
        }
        row |= {"mean random": spread(pair.random.map(mean)), "uniform": spread(pair.uniform)}
        row |= {"searched MACs": f"{pair.macs.mean() / 1e6:.1f} M"}
        row |= {"measured (ms)": f"{pair.measured_ms.mean():.3f}"}
        table.append({**row, "kept": f"{int(pair.kept.sum())} of {len(pair)}"})
    made = pd.DataFrame(table)
    return made.loc[:, (made != "none").any()]  # without columns that nothing was measured for


def caught_up(pair: pd.DataFrame) -> str:
    """The compute with which a network alone has a searched one's accuracy.

    Between N/5 and N, and a little beyond, its accuracy is taken as linear in the logarithm.
    """
    if not len(pair):
        return "none"
    fifth, whole, wanted = (pair[name].mean() for name in ("test_alone", "test_all", "test"))
    return f"{0.2 * 5 ** ((wanted - fifth) / (whole - fifth)):.2f} N"


TARGETS = {  # of the flagship: test accuracy in percent
    "largest": 94.0,
    "best of at most 10 M": 89.0,
    "smallest": 82.0,
}


def figures(front: pd.DataFrame, rows: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What was to be reached, what is, and by how much it misses."""
    first = front.query("setting == @front.setting[0]")
    over = first.difference.str.split(" ").str[0].astype(float)
    other = _means(first, "mean random")
    gains = (_means(first, "searched, N") - other).dropna()
    found = [
        ("searched over hand-designed, N against N/5, the least of the budgets", 1.0, over.min()),
        ("searched over the mean random network, the least", 0.5, gains.min()),
    ]
    if len(rows["flagship"]):
        for name, tries in rows["flagship"].groupby("name", sort=False):
            best = tries.loc[tries.test.idxmax()]
            title = f"long training, {name} ({best.macs / 1e6:.1f} M), the best of {len(tries)}"
            found.append((title, TARGETS[name], 100 * best.test))
    for line in with_alone(rows).dropna(subset="test_alone").to_dict("records"):
        title = f"long training {line['training']}, {line['name']}, over itself alone"
        found.append((title, -1.5, 100 * (line["test"] - line["test_alone"])))
    if len(rows["strategy"]):
        mean_of = rows["strategy"].assign(all=rows["strategy"].test.map(mean))
        mean_of = 100 * mean_of.groupby(["name", "times"])["all"].mean()
        if {("sandwich", 1.0), (DEFAULT, 0.4)} <= set(mean_of.index):
            title = "mean of eight networks, default strategy with 0.4 N over the sandwich with N"
            found.append((title, 0.0, mean_of[DEFAULT, 0.4] - mean_of["sandwich", 1.0]))
    return pd.DataFrame(
        {
            "figure": name,
            "target": f"{target:g}",
            "measured": f"{value:.2f}",
            "": "reached" if value >= target else f"missed by {target - value:.2f}",
        }
        for name, target, value in found
        if not math.isnan(value)
    )


def _means(table: pd.DataFrame, column: str) -> pd.Series:
    """The means of a column of 'mean ± deviation', NaN where there is none."""
    if column not in table:
        return pd.Series(math.nan, table.index)
    return table[column].replace("none", "nan").str.split(" ").str[0].astype(float)


COLUMNS = {"others": ["random", "uniform"], "tuned": ["test"]}
NEW = {"test": "test_tuned"}


def mean(tests: object) -> float:
    return float(np.mean(tests)) if isinstance(tests, list) and tests else math.nan


def strategies(rows: pd.DataFrame) -> pd.DataFrame:
    """Strategies at equal compute: test accuracies of the same networks of each supernet."""
    table = []
    for (times, name), part in rows.sort_values("times", kind="stable").groupby(
        ["times", "name"], sort=False
    ):
        tests = np.array(part.test.tolist())
        row = {"compute": f"{times:g} N", "strategy": name, "seeds": len(part)}
        row |= {"images": f"{part.epochs.iloc[0] * part.images.iloc[0]:,}"}
        row |= {
            "largest": spread(pd.Series(tests[:, 0])),
            "smallest": spread(pd.Series(tests[:, 1])),
        }
        row |= {f"mean of {tests.shape[1] - 2} random": spread(pd.Series(tests[:, 2:].mean(1)))}
        table.append({**row, "mean of all": spread(pd.Series(tests.mean(1)))})
    return pd.DataFrame(table)


def with_alone(rows: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The lines of the long trainings, beside each network's own training alone."""
    keys = ["training", "name", "seed"]
    long, alone = (rows[kind] for kind in ("flagship", "flagship-alone"))
    columns = [*keys, "val", "test"]
    alone = alone[columns] if len(alone) else pd.DataFrame(columns=columns)
    long = long if len(long) else pd.DataFrame(columns=[*columns, "macs"])
    return long.merge(alone, on=keys, how="left", suffixes=("", "_alone"))


def flagship(rows: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The long trainings, network by network."""
    compute = rows["supernet"].train_macs.mean()
    return pd.DataFrame(
        {
            "training": row.training,
            "epochs": row.epochs,
            "compute": f"{row.train_macs / compute:.0f} N",
            "network": row["name"],
            "MACs": f"{row.macs / 1e6:.1f} M",
            "validation": f"{100 * row.val:.2f}",
            "test": f"{100 * row.test:.2f}",
            "alone": spread(pd.Series([row.test_alone], dtype=float)),
        }
        for _, row in with_alone(rows).iterrows()
    )


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


def draw(table: pd.DataFrame, path: Path) -> None:
    """Test accuracy over latency: searched networks, random ones, and those designed by hand."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cifar10-front"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    budgets = table["budget (ms)"].astype(float)
    styles = {"searched, N": "o-", "mean random": "^:", "alone, N/5": "s--"}
    for column in filter(styles.__contains__, table):
        parts = table[column].replace("none", "nan").str.split(" ± ", expand=True).astype(float)
        error = parts.get(1)
        axes.errorbar(budgets, parts[0], yerr=error, fmt=styles[column], capsize=3, label=column)
    axes.set_xscale("log")
    axes.set_xlabel("latency budget, ms (ONNX Runtime, one thread)")
    axes.set_ylabel("CIFAR-10 test accuracy, %")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
