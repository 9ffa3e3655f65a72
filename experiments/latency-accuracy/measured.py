"""The parts of the bench that measure this machine, or tell what was measured on it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import arena
import numpy as np
import pandas as pd
import plot
import torch
from score import coverage, say, scores

from nassearch import config
from nassearch.latency.coverage import MAX_NETWORKS
from nassearch.latency.device import HOST, load_device, table_directories
from nassearch.latency.predictor import LatencyPredictor
from nassearch.latency.profiler import profile
from nassearch.latency.table import LatencyTable, find_table
from nassearch.latency.timing import Timing, interleave, load_slope, reference_ms, references
from nassearch.networks import Subnet
from nassearch.networks.activation_memory import peak_activation_bytes
from nassearch.networks.cost import network_cost
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes import RUNTIMES
from nassearch.runtimes.runtime import Floats, Runtime
from nassearch.setting import Setting
from nassearch.space import Architecture, SearchSpace, lower

CHECK_SECONDS = 190.0  # many more networks, and what is compared with must be the steadier
# How many random networks of each, beside the smallest and the largest.
MEMORY_SPACES = {
    "digits_tiny": 12,
    "cifar_resnet": 12,
    "mobilenet_v3": 12,
    "resnet50": 2,
    "convnext_like": 2,
}


def memory() -> None:
    """Predicted peak of activations against what ONNX Runtime's arena held of them."""
    torch.set_num_threads(1)
    every = []
    for name, networks in MEMORY_SPACES.items():
        space = SearchSpace.load(name)
        drawn = space.sample_many(np.random.default_rng(0), networks)
        ratios = []
        for one in dict.fromkeys([space.smallest, space.largest, *drawn]):
            specs = lower(space, one)
            network = Subnet(specs).eval()
            graph = to_onnx(network, network.input_shape)
            measured = arena.measure(graph, np.zeros((1, *network.input_shape), np.float32))
            ratios.append(peak_activation_bytes(specs) / measured.activations)
        every += ratios
        say(f"{name}: activations {spread(ratios)}")
    say(f"all: activations {spread(every)}")


def spread(ratios: Sequence[float]) -> str:
    low, median, high = np.percentile(ratios, (0, 50, 100))
    return f"predicted/measured {median:.3f} ({low:.3f} to {high:.3f}, {len(ratios)} networks)"


def device(
    name: str,
    *,
    resolution: int,
    seconds: float,
    runtime: str,
    precision: str,
    networks: int,
    seed: int,
    out: Path,
    most_networks: int = MAX_NETWORKS,
    time_budget: float | None = None,
) -> None:
    """Profile this machine, then measure networks it has not seen: random and extreme ones."""
    torch.set_num_threads(1)
    space = SearchSpace.load(name)
    if resolution:
        space = SearchSpace.from_dict({**space.to_dict(), "resolution": resolution})
    setting = load_device(HOST).setting(runtime=runtime, precision=precision, threads=1)
    engine = config.resolve(RUNTIMES, runtime, kind="runtime")(setting)
    start = time.monotonic()
    rng = np.random.default_rng(seed)
    table = profile(
        space,
        setting,
        runtime=engine,
        rng=rng,
        seconds=seconds,
        max_networks=most_networks,
        time_budget=time_budget,
    )
    took = time.monotonic() - start
    seen = {network.genes for network in table.networks}
    say(f"profiled {len(table.blocks)} blocks in {len(seen)} whole networks, {took:.0f} s")
    say(
        f"while profiling: noise floor {table.facts['noise_floor']:.2%}, standard error"
        f" {table.facts['standard_error']:.2%}, {table.facts['rounds']} rounds"
    )
    drawn = [*extremes(space, rng, networks // 4), *space.sample_many(rng, 2 * networks)]
    fresh = [a for a in dict.fromkeys(drawn) if space.encode(a) not in seen][:networks]
    measured, timing, ratios, clock = check(table, space, fresh, engine, rng)
    by_references = timing.reference / (reference_ms(table, space) or timing.reference)
    say(
        f"while checking {len(fresh)} networks: noise floor {timing.noise_floor:.2%}; the machine"
        f" took {clock:.3f} times as long as while profiling ({by_references:.3f} by references)"
    )
    say(f"the profile's networks measured again differ by {np.mean(np.abs(ratios - 1)):.2%}")
    predictor = LatencyPredictor.from_table(table, space)
    plain = LatencyPredictor(space, setting, "measured", predictor.block_ms)
    say(f"sum of blocks: {scores(plain.predict(fresh), measured)}")
    say(f"calibrated on {len(seen)}: {scores(predictor.predict(fresh), measured)}")
    pairs = [(space, a, ms) for a, ms in zip(fresh, measured, strict=True)]
    say(f"  interval ± {predictor.calibration.ratio:.1%} covers {coverage(predictor, pairs):.1%}")
    low, high = predictor.interval(fresh)
    frame = pd.DataFrame(
        {
            "space": space.name,
            "setting": setting.stem,
            "seed": seed,
            "macs": [network_cost(lower(space, a)).macs for a in fresh],
            "predicted_ms": predictor.predict(fresh),
            "low_ms": low,
            "high_ms": high,
            "measured_ms": measured,
            "noise_floor": timing.noise_floor,
            "profile_s": took,
            "profile_networks": len(seen),
            "profile_noise_floor": table.facts["noise_floor"],
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{space.name}-r{'-'.join(map(str, space.resolutions))}-{setting.stem}-{seed}.csv"
    frame.to_csv(path, index=False, float_format="%.6g")
    table.save(out / "tables" / str(seed))
    say(f"wrote {path}")


def tables(device_name: str) -> None:
    """What the headers of a device's tables say, and how much faster its networks are in int8."""
    found: dict[Setting, LatencyTable] = {}
    device = load_device(device_name)
    for setting in (device.default, *device.settings):
        table = find_table(setting, table_directories())
        if table is None:
            continue
        found[table.setting] = table
        sources = pd.Series([m.source for m in table.blocks.values()]).value_counts()
        say(f"{table.setting}: {', '.join(f'{count} {name}' for name, count in sources.items())}")
        for name, facts in table.profiles.items():
            say(f"  {name.partition(':')[0]}: " + ", ".join(f"{k} {v}" for k, v in facts.items()))
    for setting, table in found.items():
        whole = found.get(replace(setting, precision="fp32"))
        if setting.precision != "int8" or whole is None:
            continue
        times = {one.genes: one.measurement.median_ms for one in whole.networks}
        shared = [one for one in table.networks if one.genes in times]
        ratios = pd.Series([times[one.genes] / one.measurement.median_ms for one in shared])
        for name, part in ratios.groupby([one.space.partition(":")[0] for one in shared]):
            low, high = part.min(), part.max()
            faster = f"{part.median():.2f} times as fast as fp32 ({low:.2f} to {high:.2f})"
            say(f"{setting}: {name} {faster}")


def plots(directory: Path) -> None:
    """Draw every run that `device` wrote, and print its figures, their medians and their spread."""
    found = []
    for path in sorted(directory.glob("*.csv")):
        plot.draw(path)
        frame = pd.read_csv(path)
        error = np.abs(frame.predicted_ms / frame.measured_ms - 1)
        inside = (frame.low_ms <= frame.measured_ms) & (frame.measured_ms <= frame.high_ms)
        found.append(
            {
                "run": path.stem,
                "networks": len(frame),
                "profile s": frame.profile_s[0],
                "profiled": frame.profile_networks[0],
                "floor while profiling %": 100 * frame.profile_noise_floor[0],
                "floor while checking %": 100 * frame.noise_floor[0],
                "error %": 100 * error.mean(),
                "within 10 %": 100 * np.mean(error <= 0.10),
                "within 5 %": 100 * np.mean(error <= 0.05),
                "rank": frame.predicted_ms.corr(frame.measured_ms, method="spearman"),
                "interval ± %": 100 * (frame.high_ms[0] / frame.predicted_ms[0] - 1),
                "covers %": 100 * inside.mean(),
            }
        )
    table = pd.DataFrame(found).set_index("run")
    ends = table.agg(["median", "min", "max"])
    say(pd.concat([table, ends]).T.to_string(float_format="{:.4g}".format))


def check(
    table: LatencyTable,
    space: SearchSpace,
    fresh: Sequence[Architecture],
    engine: Runtime,
    rng: np.random.Generator,
) -> tuple[Floats, Timing, Floats, float]:
    """Milliseconds of networks on the clock of the table, (n,); how, and how sure.

    The profile's own networks are loaded and run among them: they tell how much slower the machine
    is now, and what the order of loading does. (ms, timing, measured again / then, slower now.)
    """
    again = table.pairs(space)
    every = [*fresh, *(a for _, a, _ in again)]
    order = rng.permutation(len(every))
    sessions = {}
    for index in order:
        sessions[index] = engine.load(Subnet(lower(space, every[index])).eval()).run_ms
    timing = interleave(
        [sessions[index] for index in range(len(every))],
        references=references(space, engine),
        seconds=CHECK_SECONDS,
        max_rounds=40,
    )
    medians, positions = timing.medians_ms, np.argsort(order)
    then = np.array([one.measurement.median_ms for *_, one in again])
    ratios = medians[len(fresh) :] / then
    slope = load_slope(ratios, positions[len(fresh) :])
    steady = np.exp(slope * (positions - np.mean(positions)))
    clock = float(np.median(ratios / steady[len(fresh) :]))
    on_clock = medians / steady / clock
    return on_clock[: len(fresh)], timing, on_clock[len(fresh) :] / then, clock


def extremes(space: SearchSpace, rng: np.random.Generator, count: int) -> list[Architecture]:
    """The smallest, the largest, and networks of the extreme values of every dimension."""
    sizes = np.array([len(gene.choices) for gene in space.genes])
    corners = rng.integers(0, 2, (count, len(sizes))) * (sizes - 1)
    return [space.smallest, space.largest, *(space.decode(list(map(int, g))) for g in corners)]
