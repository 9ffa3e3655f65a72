"""Architecture and precision searched together, beside precision decided afterwards.

    python experiments/joint-precision/run.py latency --space NAME [--resolution N]
    python experiments/joint-precision/run.py search --run RUN --data FOLDER --seed N [--modes ...]
    python experiments/joint-precision/run.py timing --run RUN --data FOLDER --seed N
    python experiments/joint-precision/run.py fronts --run RUN --data FOLDER --seed N
    python experiments/joint-precision/run.py policies --run RUN --data FOLDER [--spoil FACTOR]
    python experiments/joint-precision/run.py overhead
    python experiments/joint-precision/run.py report

`latency` measures tables of fp32, of int8 and of borders, then held-out mixed networks (others for
another --seed) in a session of their own: it wants a quiet machine. `search` searches a trained
supernet three ways with as many evaluations; `timing` measures the latency of all that was found in
one session (a quiet machine again), `fronts` its accuracy on test images. `policies` evaluates
every policy of one network of nine blocks, where int8 hurts if --spoil makes a channel within each
block up to FACTOR times as large, and its reader as much smaller; `overhead` times proposals. What
results.jsonl beside this file holds is not done again. RUN is a run of a supernet, FOLDER its
images.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import nassearch as ns
from nassearch import files
from nassearch.export.deployment import deployed
from nassearch.export.int8 import calibration_images
from nassearch.export.onnx_file import open_graph
from nassearch.latency.border_profiler import mixed_networks
from nassearch.latency.device import host_device
from nassearch.latency.target import Target, load_target
from nassearch.latency.timing import interleave, reference_ms, references
from nassearch.networks import Subnet
from nassearch.networks.file_size import file_bytes
from nassearch.networks.onnx_graph import to_onnx
from nassearch.objectives.measured import accuracy_estimate
from nassearch.objectives.objective import Context, build
from nassearch.pipeline.trained_supernet import TrainedSupernet
from nassearch.provenance import Estimate
from nassearch.runtimes.quantization import quantize_blocks
from nassearch.runtimes.runtime import deployed_space, make_runtime
from nassearch.search.algorithm import make_algorithm
from nassearch.search.candidate import Candidate
from nassearch.search.candidate_evaluation import measure
from nassearch.search.pareto import hypervolume, non_dominated
from nassearch.search.problem import Objective, Problem
from nassearch.search.runner import batch_after
from nassearch.setting import MIXED, Setting
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training.evaluation import Accuracy, measure_accuracy

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
MODES = ("mixed", "int8", "fp32")
TRIALS = 100
HELD_OUT = 100
SECONDS = 60.0
NUM_BLOCKS = 9  # of the network whose every policy is evaluated


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=list(PARTS))
    parser.add_argument("--space", default="cifar_dense")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--spoil", type=float, default=1.0, metavar="FACTOR")
    parser.add_argument("--out", type=Path, default=Path("runs/joint-precision"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    PARTS[arguments.what](arguments)


def setting(precision: str) -> Setting:
    return Setting("here", "onnxruntime", precision, 1, 1)


def target(space: SearchSpace, precision: str, out: Path) -> Target:
    device = host_device().called("here")
    return load_target(space, device, setting(precision), places=[out / "latency_tables"])


# -- latency ---------------------------------------------------------------------------------------


def latency(arguments: argparse.Namespace) -> None:
    """How far predictions of held-out mixed networks are off."""
    space = SearchSpace.load(arguments.space)
    if arguments.resolution:
        space = SearchSpace.from_dict({**space.to_dict(), "resolution": arguments.resolution})
    if done(kind="latency", space=space.name, seed=arguments.seed):
        return
    ns.profile_device(
        space, "here", precision=MIXED, seconds=SECONDS, out=arguments.out / "latency_tables"
    )
    known = target(space, MIXED, arguments.out)
    assert known.table is not None
    mixed = deployed_space(space, setting(MIXED))
    drawn = mixed_networks(mixed, np.random.default_rng(1 + arguments.seed), 2 * HELD_OUT)
    learnt = {architecture for _, architecture, _ in known.predictor.pairs}
    held_out = [item for item in drawn if item not in learnt][:HELD_OUT]
    runtime = make_runtime(setting(MIXED))
    runs = [runtime.load(Subnet.of(mixed, item).eval()).run_ms for item in held_out]
    session = interleave(runs, references=references(mixed, runtime), seconds=2 * SECONDS)
    rows = session.measurements(reference_ms=reference_ms(known.table, mixed))
    measured = np.array([row.median_ms for row in rows])
    predicted = known.predictor.predict(held_out)
    low, high = known.predictor.interval(held_out)
    errors = np.abs(predicted / measured - 1)
    keep(
        {
            "kind": "latency",
            "space": space.name,
            "seed": arguments.seed,
            "networks": len(held_out),
            "mean_error": float(errors.mean()),
            "floor": session.noise_floor,
            "within_5_percent": float(np.mean(errors < 0.05)),
            "rank_correlation": float(spearmanr(predicted, measured).statistic),
            "inside_interval": float(np.mean((low <= measured) & (measured <= high))),
            "without_borders": float(np.abs(_sums(known, held_out) / measured - 1).mean()),
            "borders": _borders(known),
            "predicted": predicted.round(4).tolist(),
            "measured": measured.round(4).tolist(),
        }
    )


def _sums(known: Target, architectures: Sequence[Architecture]) -> Any:
    """What the tables alone would say, scaled to the same mean."""
    predictor: Any = known.predictor
    sums = [
        sum(
            predictor.block_ms(spec, precision)
            for spec, precision in zip(lower(known.space, item), item.precisions or (), strict=True)
        )
        for item in architectures
    ]
    predicted = predictor.predict(architectures)
    return np.array(sums) * np.median(predicted / sums)


def _borders(known: Target) -> dict[str, Any]:
    borders: Any = known.predictor.borders  # type: ignore[union-attr]
    return {
        "scales": {" ".join(kind): scale for kind, scale in borders.scales.items()},
        "more_us": {name: 1e3 * ms for name, ms in borders.more_ms.items()},
        "each_us": {f"{a} to {b}": 1e3 * ms for (a, b), ms in borders.each_ms.items()},
        "ns_an_element": {f"{a} to {b}": 1e6 * ms for (a, b), ms in borders.element_ms.items()},
    }


# -- search ----------------------------------------------------------------------------------------


def load(arguments: argparse.Namespace) -> tuple[TrainedSupernet, Any]:
    data = ns.load_data(f"imagefolder:{arguments.data}", val_share=0.1, seed=arguments.seed)
    return ns.load_supernet(arguments.run, data=data), data


def search(arguments: argparse.Namespace) -> None:
    """Search a supernet in each mode."""
    supernet, _ = load(arguments)
    for mode in arguments.modes:
        place = arguments.out / f"search-{mode}-{arguments.seed}"
        if done(kind="search", mode=mode, seed=arguments.seed):
            continue
        result = ns.search_subnets(
            supernet,
            devices=[target(supernet.space, mode, arguments.out)],
            trials=TRIALS,
            seed=arguments.seed,
            out=place,
            resume=place.exists(),
            cold=True,
        )
        front = [item.architecture.to_dict() for item in result.front]
        keep({"kind": "search", "mode": mode, "seed": arguments.seed, "front": front})


def timing(arguments: argparse.Namespace) -> None:
    """Latencies of every front's networks, measured in one session."""
    if done(kind="timing", seed=arguments.seed):
        return
    supernet, _ = load(arguments)
    mixed = deployed_space(supernet.space, setting(MIXED))
    mixing, runtime = supernet.deployed_in(mixed.precisions), make_runtime(setting(MIXED))
    every = list(dict.fromkeys(itertools.chain(*_found(mixed, arguments.seed).values())))
    runs = [runtime.load(mixing.extract(item)).run_ms for item in every]
    measured = interleave(runs, references=references(mixed, runtime), seconds=SECONDS / 2)
    line = {"kind": "timing", "seed": arguments.seed, "noise": measured.noise_floor}
    ids = [item.id for item in every]
    keep({**line, "ms": dict(zip(ids, map(float, measured.medians_ms), strict=True))})


def fronts(arguments: argparse.Namespace) -> None:
    """Accuracy on test images of every front's networks, beside their latencies."""
    timing(arguments)
    (timed,) = results(kind="timing", seed=arguments.seed)
    supernet, data = load(arguments)
    mixed = deployed_space(supernet.space, setting(MIXED))
    mixing = supernet.deployed_in(mixed.precisions)
    points: dict[str, list[list[float]]] = {}
    for name, networks in _found(mixed, arguments.seed).items():
        points[name] = []
        for item in networks:
            key = {"kind": "tested", "seed": arguments.seed, "id": item.id}
            if not done(**key):
                keep({**key, "accuracy": tested(mixing, item, data)})
            share = results(**key)[0]["accuracy"]
            points[name].append([share, timed["ms"][item.id], size(mixed, item)])
    ends = {name: points.pop(name)[0] for name in ENDS}
    line = {"kind": "fronts", "seed": arguments.seed, "noise": timed["noise"]}
    keep({**line, "ends": ends, "fronts": points})


def _found(mixed: SearchSpace, seed: int) -> dict[str, list[Architecture]]:
    """The networks that each search found, and the smallest and the largest."""
    networks = {name: [_with(mixed, getattr(mixed.plain, name), "fp32")] for name in ENDS}
    for mode in MODES:
        (line,) = results(kind="search", mode=mode, seed=seed)
        found = [Architecture.from_dict(item) for item in line["front"]]
        networks[mode] = [_with(mixed, item, mode) for item in found]
    return networks | {"fp32, then int8": [_with(mixed, a, "int8") for a in networks["fp32"]]}


def _with(mixed: SearchSpace, architecture: Architecture, mode: str) -> Architecture:
    """The architecture with a policy: its own, or one precision for all blocks."""
    if mode == "mixed":
        return architecture
    return mixed.uniform(architecture, mode)


def size(mixed: SearchSpace, architecture: Architecture) -> int:
    specs = lower(mixed, architecture)
    pairs = zip(specs, architecture.precisions or (), strict=True)
    return sum(file_bytes(spec, precision) for spec, precision in pairs)


def tested(supernet: TrainedSupernet, architecture: Architecture, data: Any) -> float:
    """Accuracy on test images of the network as its policy deploys it."""
    network = deployed(supernet.extract(architecture), data=data)
    measured = measure_accuracy(
        network, data.test(), data, split="test", resolution=architecture.resolution
    )
    return measured.value


# -- policies of one network -----------------------------------------------------------------------


def policies(arguments: argparse.Namespace) -> None:
    """Accuracies of every policy of a network, beside what sensitivity says of each."""
    supernet, data = load(arguments)
    if arguments.spoil > 1:
        supernet = spoiled(supernet, arguments.spoil, arguments.out / "spoiled")
    mixed = deployed_space(supernet.space, setting(MIXED))
    mixing = supernet.deployed_in(mixed.precisions)
    drawn = mixed.plain.sample_many(np.random.default_rng(0), 1000)
    network = next(item for item in drawn if len(lower(mixed, item)) == NUM_BLOCKS)
    (sensitivity,) = build("sensitivity", mixing.context())
    subnet = supernet.extract(network)
    pixels = network.resolution
    graph = to_onnx(subnet, subnet.input_shape, batch=None)
    images = calibration_images(data, pixels).numpy()
    which = {"id": network.id, "spoil": arguments.spoil}
    if not done(kind="policy_reference", **which):
        smallest = supernet.evaluator.accuracy(supernet.space.smallest).value
        keep({"kind": "policy_reference", **which, "accuracy": smallest})
    known = {tuple(line["policy"]) for line in results(kind="policy", **which)}
    ranges = arguments.out / f"ranges-{network.id}-{arguments.spoil:g}.json"
    for policy in itertools.product(mixed.precisions, repeat=NUM_BLOCKS):
        if policy in known:
            continue
        run = open_graph(quantize_blocks(graph, policy, images, ranges=ranges))
        measured = measure_accuracy(run, data.val, data, split="val", resolution=pixels)
        architecture = replace(network, precisions=policy)
        keep(
            {
                "kind": "policy",
                **which,
                "policy": list(policy),
                "accuracy": measured.value,
                "loss": measured.loss,
                "bytes": size(mixed, architecture),
                "sensitivity": sensitivity.evaluate(architecture).value,
            }
        )


def spoiled(supernet: TrainedSupernet, most: float, out: Path) -> TrainedSupernet:
    """The same networks in float, of which int8 hurts some blocks: a channel within each block is
    made up to `most` times as large, and its reader as much smaller.
    """
    state, rng = supernet.supernet.state_dict(), np.random.default_rng(0)
    for name in [name for name in state if name.endswith("reduce.norm.weight")]:
        factor = float(most ** rng.random())
        state[name][0] *= factor
        state[name.replace("weight", "bias")][0] *= factor
        state[name.replace("reduce.norm", "expand.conv")][:, 0] /= factor
    files.make_directory(out)
    return replace(supernet, directory=out)


def by_sensitivity(
    lines: Sequence[dict[str, Any]], least_accuracy: float | None = None
) -> list[tuple[int, float]]:
    """So many policies that sensitivity and bytes choose, and their share of all hypervolume: those
    that no policy dominates in these two, and front after front a tenth of all.

    The reference point has the bytes of the largest file, and `least_accuracy` or that of the worst
    policy.
    """
    points = np.array([[-line["accuracy"], line["bytes"]] for line in lines])
    hints = np.array([[line["sensitivity"], line["bytes"]] for line in lines])
    reference = points.max(axis=0) + 1e-9
    if least_accuracy is not None:
        reference[0] = -least_accuracy
    every, found = hypervolume(points, reference), []
    left = np.ones(len(lines), dtype=bool)
    for most in (1, len(lines) // 10):
        while (~left).sum() < most:
            places = np.flatnonzero(left)
            front = places[non_dominated(hints[places])]
            front = front[np.argsort(hints[front, 0])]
            left[front if most == 1 else front[: most - (~left).sum()]] = False
        found.append((int((~left).sum()), hypervolume(points[~left], reference) / every))
    return found


# -- proposing candidates --------------------------------------------------------------------------


def overhead(arguments: argparse.Namespace) -> None:
    """CPU milliseconds that `guided` takes for a candidate, by hundreds, where accuracy is free."""
    for name in ("cifar_dense", "mobilenet_v3"):
        if done(kind="overhead", space=name):
            continue
        mixed = deployed_space(SearchSpace.load(name), setting(MIXED))
        weights = np.random.default_rng(0).random(len(mixed.genes)) / len(mixed.genes)

        def accuracy(architecture: Architecture, mixed=mixed, weights=weights) -> Estimate:  # type: ignore[no-untyped-def]
            share = float(weights @ np.array(mixed.encode(architecture))) / 4
            return accuracy_estimate(Accuracy.of(round(5000 * share), 5000, split="val"))

        (size_bytes,) = build("size_bytes", Context(mixed))
        problem = Problem(mixed, (Objective("accuracy", "max", "", accuracy), size_bytes), (), 0)
        algorithm, parts, began, told = make_algorithm(problem, "guided"), [], process_time(), 0
        while told < 500:
            for architecture in algorithm.ask(batch_after(told)):
                values = measure(problem.quantities, architecture, cache=None)
                algorithm.tell(Candidate(architecture, values))
                told += 1
                if told % 100 == 0:
                    parts.append(round(10 * (process_time() - began), 1))
                    began = process_time()
        keep({"kind": "overhead", "space": name, "genes": len(mixed.genes), "milliseconds": parts})


# -- results ---------------------------------------------------------------------------------------


def results(**wanted: Any) -> list[dict[str, Any]]:
    """The lines of results.jsonl with these values."""
    return [
        line
        for line in files.read_json_lines(RESULTS)
        if all(line.get(key) == value for key, value in wanted.items())
    ]


def done(**wanted: Any) -> bool:
    return bool(results(**wanted))


def keep(line: dict[str, Any]) -> None:
    files.append_json_line(RESULTS, line)
    sys.stdout.write(f"{line}\n")


def report(arguments: argparse.Namespace) -> None:
    """The tables and the picture of README.md."""
    columns = "space | seed | networks | mean error | floor | within 5 % | rank correlation"
    lines = [f"| {columns} | inside 90 % |", "| --- " * 8 + "|"]
    for line in results(kind="latency"):
        errors = f"{line['mean_error']:.1%} | {line['floor']:.1%} | {line['within_5_percent']:.0%}"
        ranks = f"{line['rank_correlation']:.3f} | {line['inside_interval']:.0%}"
        which = f"{line['space']} | {line['seed']} | {line['networks']}"
        lines.append(f"| {which} | {errors} | {ranks} |")
    for smallest in results(kind="policy_reference"):
        lines += ["", *_policies_text(smallest)]
    if found := results(kind="fronts"):
        lines += ["", "| seed | " + " | ".join(NAMES) + " | mixed over fp32, then int8"]
        lines[-1] += " | over int8 |"
        lines.append("| --- " * (len(NAMES) + 3) + "|")
        lines += [_volumes(line) for line in found]
        lines += ["", f"| seed | as accurate as | {' | '.join(NAMES)} |", "| --- " * 6 + "|"]
        lines += [row for line in found for row in _as_accurate(line)]
        lines += [_summary(found), "", *_as_fast(found)]
        draw(found)
    for line in results(kind="overhead"):
        most = max(line["milliseconds"])
        lines += ["", f"{line['space']}, {line['genes']} genes: {most:g} ms a candidate at most."]
    sys.stdout.write("\n".join(lines) + "\n")


def _policies_text(smallest: dict[str, Any]) -> list[str]:
    """What is known of every policy of a network."""
    known = results(kind="policy", id=smallest["id"], spoil=smallest["spoil"])
    worst, wide = by_sensitivity(known), by_sensitivity(known, smallest["accuracy"])
    spoil = smallest["spoil"]
    texts = ["As trained:" if spoil == 1 else f"Channels up to {spoil:g} times as large:", ""]
    for (count, share), (_, more) in zip(worst, wide, strict=True):
        texts += [
            f"- The {count} of {len(known)} policies that are least sensitive for their bytes have"
            f" {share:.1%} of the hypervolume above the worst policy, {more:.1%} of that above the"
            " smallest network in fp32."
        ]
    shares = sorted(line["accuracy"] for line in known)
    losses = [line["loss"] for line in known]
    rank = spearmanr([line["sensitivity"] for line in known], losses).statistic
    texts += [
        f"- Accuracies {shares[0]:.2%} to {shares[-1]:.2%}, losses {min(losses):.4f} to"
        f" {max(losses):.4f}; rank correlation of sensitivity and loss {rank:.2f}.",
        *(
            f"- All in {name}: {line['accuracy']:.2%}."
            for name in ("fp32", "int8")
            for line in known
            if set(line["policy"]) == {name}
        ),
    ]
    return texts


def _volumes(line: dict[str, Any]) -> str:
    """A row of hypervolumes: points of accuracy above the smallest times milliseconds saved."""
    volumes = _hypervolumes(line)
    cells = [f"{100 * volumes[name]:.3f}" for name in NAMES]
    cells += [f"{volumes['mixed'] / volumes[name]:.3f}" for name in ("fp32, then int8", "int8")]
    return f"| {line['seed']} | {' | '.join(cells)} |"


def _hypervolumes(line: dict[str, Any]) -> dict[str, float]:
    reference = np.array([-line["ends"]["smallest"][0], line["ends"]["largest"][1]])
    return {
        name: hypervolume(np.array([[-point[0], point[1]] for point in front]), reference)
        for name, front in line["fronts"].items()
    }


def _as_accurate(line: dict[str, Any]) -> list[str]:
    """The fastest networks as accurate, within one standard error, as some are in fp32: as the most
    accurate, and as levels below it in equal steps to the smallest network.
    """
    rows = []
    best = max(accuracy for accuracy, _, _ in line["fronts"]["fp32"])
    for accuracy in np.linspace(best, line["ends"]["smallest"][0], 5)[:-1]:
        least = accuracy - np.sqrt(accuracy * (1 - accuracy) / TEST_IMAGES)
        cells = []
        for name in NAMES:
            front = [point for point in line["fronts"][name] if point[0] >= least]
            _, milliseconds, weight = min(front, key=lambda point: point[1], default=(0, 0, 0))
            cells.append(f"{milliseconds:.3f} ms, {weight / 1e3:.0f} kB" if front else "none")
        rows.append(f"| {line['seed']} | {accuracy:.1%} | {' | '.join(cells)} |")
    return rows


def _summary(found: Sequence[dict[str, Any]]) -> str:
    """Means and deviations over seeds of what mixed has over the others."""
    texts = []
    for name in ("fp32, then int8", "int8"):
        volumes = [_hypervolumes(line) for line in found]
        ratios = np.array([of["mixed"] / of[name] for of in volumes])
        spread = ratios.std(ddof=1) if len(ratios) > 1 else 0.0
        texts.append(f"{ratios.mean():.3f} ± {spread:.3f} times that of {name}")
    return f"\nHypervolume of mixed: {' and '.join(texts)}."


def _as_fast(found: Sequence[dict[str, Any]]) -> list[str]:
    """How large the most accurate mixed network's file is that is as fast, within 2 %, as one of
    another front."""
    lines = ["| seed | as fast as | networks | file, median share | larger |", "| --- " * 5 + "|"]
    for line in found:
        for name in ("fp32", "int8"):
            shares = []
            for _, milliseconds, weight in line["fronts"][name]:
                within = [
                    item for item in line["fronts"]["mixed"] if item[1] <= 1.02 * milliseconds
                ]
                if within:
                    shares.append(max(within)[2] / weight)
            larger = np.mean(np.array(shares) > 1)
            cells = f"{len(shares)} | {np.median(shares):.2f} | {larger:.0%}"
            lines.append(f"| {line['seed']} | {name} | {cells} |")
    return lines


def draw(found: Sequence[dict[str, Any]]) -> None:
    """fronts.svg: accuracy on test images over measured latency, a panel for each seed."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "joint-precision"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(found), figsize=(4 * len(found), 3.6), sharey=True, layout="constrained"
    )
    for axis, line in zip(np.atleast_1d(axes), found, strict=True):
        for name, style in zip(NAMES, ("k--", "s:", "^-.", "o-"), strict=True):
            front = np.array([[-point[0], point[1]] for point in line["fronts"][name]])
            best = front[non_dominated(front)]
            best = best[np.argsort(best[:, 1])]
            axis.plot(best[:, 1], -100 * best[:, 0], style, markersize=3, label=name)
        axis.set(xscale="log", xlabel="measured latency, ms", title=f"seed {line['seed']}")
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("CIFAR-10 test accuracy, %")
    np.atleast_1d(axes)[0].legend(fontsize=7)
    figure.savefig(HERE / "fronts.svg", metadata={"Date": None})
    pyplot.close(figure)


TEST_IMAGES = 10_000
ENDS = ("smallest", "largest")
NAMES = ("fp32", "fp32, then int8", "int8", "mixed")
PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "latency": latency,
    "search": search,
    "timing": timing,
    "fronts": fronts,
    "policies": policies,
    "overhead": overhead,
    "report": report,
}

if __name__ == "__main__":
    main()
