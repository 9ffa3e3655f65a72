"""Every figure of the latency room, each by one command.

    python bench.py networks  --data DIR   whole networks only
    python bench.py transfer  --data DIR   from one device to another, and networks chosen
    python bench.py ablation  --data DIR   what each part of the method brings
    python bench.py report                 what these three found, into WHOLE_NETWORKS.md
    python bench.py curves    --data DIR   efficiency curves on convolutions that were not fitted
    python bench.py gpunets   --data DIR   estimates of whole networks on a GPU, batch 1 to 64
    python bench.py published --data DIR   estimates against published networks
    python bench.py operators --data DIR   estimates against single operators of PyTorch
    python bench.py note10    --data DIR   sums of an imported once-for-all table
    python bench.py speed                  architectures a second
    python bench.py memory                 peak memory against ONNX Runtime's arena
    python bench.py device    [--space mobilenet_v3 --resolution 160 --seconds 75]   measures
    python bench.py tables                 headers of the tables that ship, int8 against fp32
    python bench.py plots   --out DIR      draws what `device` wrote, and sums it up

Only `device` times anything but this program. DIR is the folder with the public latency data.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import whole_networks
import whole_networks_report
from measured import device, memory, plots, tables
from score import say

from nassearch import config
from nassearch.latency.coverage import MAX_NETWORKS
from nassearch.latency.efficiency import load_efficiency
from nassearch.latency.importing.ofa import import_ofa_tables
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.roofline import GPU_RELATIVE_ERROR, TORCH_RELATIVE_ERROR
from nassearch.setting import Setting
from nassearch.space import SearchSpace


def networks(data: Path, *, splits: int) -> None:
    """Whole networks alone: once-for-all's on two GPUs, FBNet's on six devices."""
    gpus = whole_networks.once_for_all(data)
    for column in gpus.ms:
        for count in (50, 200, 900):
            whole_networks.scratch(gpus, column, count=count, splits=splits)
    noise(data / "ofa_mobilenet_v3" / "subnets.csv")
    devices = whole_networks.fbnet(data)
    for column in devices.ms:
        for count in (50, 700):
            whole_networks.scratch(devices, column, count=count, splits=splits)


def transfer(data: Path, *, splits: int) -> None:
    """From one device to another, alike and unlike, with networks drawn and chosen."""
    gpus, devices = whole_networks.once_for_all(data), whole_networks.fbnet(data)
    for count in (5, 10, 20):
        whole_networks.transfer(gpus, "v100_64", "2080ti_64", count=count, draws=splits)
    for source, target in (
        ("titanx_1", "1080ti_32"),
        ("essential_ph_1", "gold_6240"),
        ("eyeriss", "titanx_1"),
        ("gold_6240", "samsung_s7"),
    ):
        whole_networks.transfer(devices, source, target, count=10, draws=splits)


def ablation(data: Path, *, splits: int) -> None:
    """The method without each of its parts."""
    gpus, devices = whole_networks.once_for_all(data), whole_networks.fbnet(data)
    for table, column in ((gpus, "v100_64"), (gpus, "2080ti_64"), (devices, "titanx_1"),
                          (devices, "eyeriss"), (devices, "gold_6240")):  # fmt: skip
        for count in (50, 200):
            whole_networks.ablation(table, column, count=count, splits=splits)


def noise(path: Path) -> None:
    """What the noisy columns owe to their measurement: no predictor knows more of a network than
    its own time at batch 64, which holds everything its architecture does; and a smaller batch of
    the same network cannot take longer.
    """
    frame = pd.read_csv(path)
    for gpu in ("v100", "2080ti"):
        large, middle, one = (frame[f"{gpu}_{batch}_ms"] for batch in (64, 32, 1))
        order = large.argsort()
        ratios = (middle / large).iloc[order]
        smooth = ratios.rolling(101, center=True, min_periods=30).median()
        say(
            f"{gpu}: batch 32 told from the same network's own batch 64: error"
            f" {np.mean(np.abs(smooth / ratios - 1)):.1%}; slower than its batch 64:"
            f" {np.mean(middle > large):.1%} of networks; batch 1 slower than batch 32:"
            f" {np.mean(one > middle):.1%}"
        )


def curves(data: Path) -> None:
    """The curves that ship on the V100 convolutions that were not fitted."""
    import fit_efficiency

    efficiency = load_efficiency()
    for precision in ("fp32", "fp16", "int8"):
        path = data / "v100_tensorrt_convs" / f"{precision}.txt"
        frame = fit_efficiency.read_convolutions(path)
        frame = frame[fit_efficiency.held_out(frame)]
        for kind in ("Regular", "Depthwise"):
            part = frame[frame.type == kind]
            errors = fit_efficiency.errors(efficiency, part, precision)
            say(
                f"{precision} {kind.lower()}: median error {np.median(errors):.1%},"
                f" 90th percentile {np.percentile(errors, 90):.1%}, {len(part)} convolutions"
            )


def gpunets(data: Path) -> None:
    """Estimates of whole networks under TensorRT: half of them tell what a call costs a layer."""
    from gpunets import FITTED, CallFit

    fit, shipped = CallFit(data), load_efficiency().call_launches
    others = ~np.isin(fit.names, FITTED)

    def line(text: str, predicted: np.ndarray, rows: np.ndarray, fit: CallFit = fit) -> None:
        errors = np.abs(predicted / fit.measured_ms - 1)
        factors = np.maximum(errors + 1, fit.measured_ms / predicted)
        first = rows & (fit.batches == 1)
        say(
            f"{text}: {errors[rows].mean():.1%} over {rows.sum()} rows, batch 1"
            f" {errors[first].mean():.1%}; inside the stated ± {GPU_RELATIVE_ERROR:.0%}:"
            f" {np.mean(factors[rows] <= 1 + GPU_RELATIVE_ERROR):.0%}, at batch 1"
            f" {np.mean(factors[first] <= 1 + GPU_RELATIVE_ERROR):.0%}"
        )

    line("curves of single convolutions, all networks", fit.predict(0.0), others | ~others)
    fitted = fit.predict(fit.fit(FITTED))
    say(f"fitted on {', '.join(FITTED)}: {fit.fit(FITTED):.2f} launches (shipped {shipped:.2f})")
    line("  these", fitted, ~others)
    line("  the others, not fitted", fitted, others)
    for batch in np.unique(fit.batches):
        rows = others & (fit.batches == batch)
        ratios = fitted[rows] / fit.measured_ms[rows]
        say(f"    batch {batch}: predicted/measured {', '.join(f'{r:.2f}' for r in ratios)}")
    for text, tell, step in (("one constant", fit.fit, 1), ("one a kind", fit.fit_kinds, 5)):
        found = []
        for half in list(fit.halves())[::step]:
            rows = ~np.isin(fit.names, half)
            errors = np.abs(fit.predict(tell(half)) / fit.measured_ms - 1)
            found.append((errors[rows].mean(), errors[rows & (fit.batches == 1)].mean()))
        means, worst = np.mean(found, axis=0), np.max(found, axis=0)
        say(
            f"{text}, four networks fitted, three held out, {len(found)} splits: {means[0]:.1%}"
            f" (worst {worst[0]:.1%}), batch 1 {means[1]:.1%} (worst {worst[1]:.1%})"
        )
    unseen = CallFit(data, "a100")
    every = np.ones(len(unseen.rows), dtype=bool)
    line("A100, curves of single convolutions", unseen.predict(0.0), every, unseen)
    line("A100, the V100's constant, nothing fitted", unseen.predict(shipped), every, unseen)


def published(data: Path) -> None:
    """Estimates against networks that NVIDIA published; the A100's were not fitted.

    The ± that estimates state comes from the V100 and T4 rows: each family of networks predicted by
    the constants fitted on the others. Then, and only then, the A100 rows are looked at.
    """
    import published as tables

    rows = list(tables.published(data))
    devices = np.array([row.device for row in rows])
    names = np.array([row.network for row in rows])
    costs = {row.network: tables.network_cost(row.network, row.resolution) for row in rows}
    fitting = tables.FrameworkFit(rows, costs)
    known = devices != "a100"
    host, passes = np.split(np.exp(fitting.fit(known)), [3])
    fitted = ", ".join(f"{n} {us:.0f}" for n, us in zip(fitting.FRAMEWORKS, host, strict=True))
    say(f"fitted on V100 and T4: dispatch us {fitted}; passes {passes[0]:.2f}")
    ungrouped = known & (np.char.find(names, "resnext") < 0)
    factors = fitting.left_out(ungrouped, ("resnet50", "efficientnet"))
    grouped = fitting.left_out(known, ("resnet50", "resnext", "efficientnet"))
    say(
        f"± from V100 and T4 rows, a family left out each time: {np.percentile(factors, 90):.0%};"
        f" with grouped convolutions, of which no measurement was at hand,"
        f" {np.percentile(grouped, 90):.0%}"
    )
    for gpu in ("v100", "t4", "a100"):
        chosen = [row for row in rows if row.device == gpu]
        errors = np.array([row.error for row in chosen])
        factors = np.maximum(errors + 1, 1 / (errors + 1)) - 1
        stated = np.array([row.stated_error for row in chosen])
        sizes, covered = np.abs(errors), np.mean(factors <= stated)
        say(
            f"{gpu}: mean error {sizes.mean():.1%} over {len(chosen)} rows, median"
            f" {np.median(sizes):.1%}, the stated ± {stated.min():.0%} (PyTorch"
            f" {TORCH_RELATIVE_ERROR:.0%}) covers {covered:.0%}, nine in ten lie within a factor of"
            f" {1 + np.percentile(factors, 90):.2f}"
        )
        kinds = sorted({(row.framework, row.network, row.precision) for row in chosen})
        for kind in kinds:
            part = [
                abs(row.error)
                for row in chosen
                if (row.framework, row.network, row.precision) == kind
            ]
            say(f"  {' '.join(kind)}: {np.mean(part):.1%} over {len(part)} rows")
    for text in tables.torch_lines(data, rows, costs):
        say(text)


def operators(data: Path) -> None:
    """Operators of PyTorch that no curve was fitted on: what libraries and dispatch add to an
    engine is fitted on the V100's, and the A100's are told from that.
    """
    from eager import Operators

    for kind in ("convolutions", "linears"):
        known, unseen = (Operators(data, device, kind) for device in ("v100", "a100"))
        constants = known.fit()
        factor, dispatch_ms = np.exp(constants)
        say(f"{kind}: on the V100 {factor:.2f} x the engine's time, dispatch {dispatch_ms:.3f} ms")
        for name, rows in (("v100, fitted", known), ("a100, not fitted", unseen)):
            ratios = rows.ratios(constants)
            errors = np.abs(ratios - 1)
            say(
                f"  {name}: median error {np.median(errors):.1%}, mean {errors.mean():.1%}, nine in"
                f" ten within a factor of {np.percentile(np.maximum(ratios, 1 / ratios), 90):.2f},"
                f" median predicted/measured {np.median(ratios):.2f}, {len(ratios)} operators"
            )


def note10(data: Path) -> None:
    """Every resolution's table, summed by us and summed as it stands."""
    setting = Setting("note10", "tflite", "fp32", 1, 1)
    definition = SearchSpace.load("mobilenet_v3_w12").to_dict()
    worst, count = 0.0, 0
    for path in sorted((data / "note10_ofa_lut").glob("*.yaml")):
        table = import_ofa_tables([path], setting)
        total = sum(entry["mean"] for entry in config.read_yaml(path).values())
        ours = sum(measured.median_ms for measured in table.blocks.values())
        worst, count = max(worst, abs(ours / total - 1)), count + 1
        resolution = int(path.name.split("_")[0])
        space = SearchSpace.from_dict({**definition, "resolution": resolution})
        LatencyPredictor.from_table(table, space)  # every block of the space is there
    say(f"note10: {count} tables, largest relative difference of sums {worst:.1e}")


def speed() -> None:
    """A million architectures on one core, with a table and with a fitted correction."""
    torch.set_num_threads(1)
    space = SearchSpace.load("mobilenet_v3")
    rng = np.random.default_rng(0)
    genes = space.sample_genes(rng, 1_000_000)
    pairs = [
        (space, a, float(1 + a.resolution / 100 + rng.random())) for a in space.sample_many(rng, 60)
    ]
    predictor = LatencyPredictor.from_networks(space, Setting("any", "fake"), pairs)
    predictor.predict_genes(genes[:1000])
    took = []
    for _ in range(3):
        start = time.process_time()  # of one thread: what else the machine does is not counted
        predictor.predict_genes(genes)
        took.append(time.process_time() - start)
    say(f"speed: one million mobilenet_v3 architectures in {min(took):.2f} s of one core")


WHOLE = {"networks": networks, "transfer": transfer, "ablation": ablation}
MEASURED = (*WHOLE, "curves", "gpunets", "published", "operators", "note10")
"""The parts that read latencies measured elsewhere."""
PARTS = (*MEASURED, "report", "speed", "memory", "device", "plots", "tables")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, help="measured latencies")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--space", default="mobilenet_v3")
    parser.add_argument("--resolution", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--most-networks", type=int, default=MAX_NETWORKS, help="to profile")
    parser.add_argument("--time-budget", type=float, help="seconds of profiling, loading included")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/latency-accuracy"))
    given = parser.parse_args()
    if given.part in MEASURED and (given.data is None or not given.data.is_dir()):
        parser.error(
            f"{given.part} needs measured latencies: give their folder with --data, or DATA= of"
            " make (experiments/latency-accuracy/README.md says where they come from)"
        )
    if given.part in WHOLE:
        WHOLE[given.part](given.data, splits=given.splits)
    elif given.part == "report":
        whole_networks_report.report(whole_networks.HERE / "WHOLE_NETWORKS.md")
    elif given.part == "speed":
        speed()
    elif given.part == "tables":
        tables("zen4")
    elif given.part == "memory":
        memory()
    elif given.part == "plots":
        plots(given.out)
    elif given.part == "device":
        device(
            given.space,
            resolution=given.resolution,
            seconds=given.seconds,
            runtime=given.runtime,
            precision=given.precision,
            networks=given.networks,
            most_networks=given.most_networks,
            time_budget=given.time_budget,
            seed=given.seed,
            out=given.out,
        )
    else:
        parts = (curves, gpunets, published, operators, note10)
        {part.__name__: part for part in parts}[given.part](given.data)


if __name__ == "__main__":
    main()
