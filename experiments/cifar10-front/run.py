"""One supernet against hand-designed networks of the same latency, for the same compute.

    python experiments/cifar10-front/run.py all --data CIFAR10_FOLDER [--out runs/cifar10-front]
    python experiments/cifar10-front/run.py report [--results first_space.jsonl]

`all` trains, for every seed of plan.yaml, one supernet with the compute N and each hand-designed
network alone with N/5; measures the latencies of the latter on this machine (ONNX Runtime, one
thread); and searches the supernet for a network at each of these latencies. What results.jsonl
beside this file holds already is not done again, and a training that was killed goes on from its
checkpoint. `measure`, `supernet`, `search` and `alone` are its parts; several processes may share
the work, each with seeds of its own (--seeds). `report` prints the tables and draws the plot.
CIFAR10_FOLDER holds train/ and test/ of class folders.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import nassearch as ns
from nassearch import files
from nassearch.data.dataset import Data
from nassearch.data.seeding import Stream, numpy_generator
from nassearch.errors import ConfigError, TableError
from nassearch.latency.table import LatencyTable
from nassearch.latency.target import Target, target_from_table
from nassearch.latency.timing import interleave, reference_ms, references
from nassearch.networks import Subnet, Supernet
from nassearch.networks.cost import macs
from nassearch.runtimes.runtime import make_runtime
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.training.evaluation import Evaluator, measure_accuracy
from nassearch.training.metrics import step_macs
from nassearch.training.schedule import StepPosition
from nassearch.training.strategy import make_strategy
from nassearch.training.trainer import train
from nassearch.training.training_recipe import TrainingRecipe

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
PLAN = yaml.safe_load((HERE / "plan.yaml").read_text())
NUM_TRAIN = round(50_000 * (1 - PLAN["val_share"]))
OUTER = {"outer_gamma": PLAN["supernet"]["outer_gamma"]}
NETWORKS = ["largest", "smallest", "best of at most 10 M"]  # of a flagship, those tested
SMALL = 40  # networks of at most 10 M from which the flagship's is chosen on validation images
OTHERS = 6  # random networks whose accuracies say how good a supernet is
DEVICE = "here"
PARTS = ["all", "measure", "supernet", "search", "compare", "fine-tune", "alone", "strategies"]
PARTS += ["flagship", "flagship-alone", "report"]
SAMPLE = 400_000  # random networks from which those just below a budget are taken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10-front"))
    parser.add_argument("--seeds", type=int, nargs="+", default=PLAN["seeds"])
    parser.add_argument("--names", nargs="+", help="of strategies, networks or flagships")
    parser.add_argument("--networks", nargs="+", help="of flagship-alone", default=NETWORKS)
    parser.add_argument("--times", type=float, default=1, help="of N, for strategies")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what report prints")
    parser.add_argument("--shares", type=float, nargs="+", default=PLAN["shares"], help="of N")
    arguments = parser.parse_args()
    if arguments.what == "report":
        from tables import report

        report(arguments.results)
        return
    torch.set_num_threads(1)
    if arguments.what in ("flagship", "flagship-alone"):
        for name in arguments.names or PLAN["flagships"]:
            if arguments.what == "flagship":
                train_flagship(name, arguments.data, arguments.out)
            else:
                train_flagship_alone(name, arguments.networks, arguments.data, arguments.out)
        return
    settings = PLAN["settings"]
    if arguments.what in ("all", "measure"):
        for setting in settings:
            measure(setting, arguments.out)
    for seed in arguments.seeds:
        data = ns.load_data(f"imagefolder:{arguments.data}", val_share=PLAN["val_share"], seed=seed)
        if arguments.what in ("all", "supernet"):
            train_supernet(data, seed, arguments.out)
        if arguments.what in ("all", "search"):
            for setting in settings:
                search(setting, data, seed, arguments.out)
        if arguments.what in ("all", "compare"):
            compare(settings[0], data, seed, arguments.out)
        if arguments.what in ("all", "fine-tune"):
            fine_tune(settings[0], data, seed, arguments.out)
        if arguments.what in ("all", "strategies"):
            for name in arguments.names or PLAN["strategies"]:
                train_strategy(name, arguments.times, data, seed, arguments.out)
        if arguments.what in ("all", "alone"):
            for share in arguments.shares:
                for name in arguments.names or PLAN["hand_designed"]:
                    train_alone(name, share, data, seed, arguments.out)


# -- training --------------------------------------------------------------------------------------


def train_supernet(data: Data, seed: int, out: Path) -> None:
    """The supernet of a seed, through the front door."""
    if done(kind="supernet", seed=seed):
        return
    directory = out / f"supernet-{seed}"
    ns.train_supernet(
        PLAN["space"],
        data,
        epochs=PLAN["epochs"],
        seed=seed,
        threads=1,
        options={**PLAN["shared"], **PLAN["supernet"]},
        out=directory,
        resume=directory.exists(),
    )
    keep({"kind": "supernet", "seed": seed, **last_line(directory)})


def train_flagship(name: str, path: Path, out: Path) -> None:
    """A long training, and the accuracies of its largest, its smallest and a small network."""
    keys = dict(PLAN["flagships"][name])
    seed, epochs = PLAN["seeds"][0], keys.pop("epochs")
    if done(kind="flagship", training=name) and done(kind="strategy", name=name, epochs=epochs):
        return
    data = ns.load_data(f"imagefolder:{path}", val_share=PLAN["val_share"], seed=seed)
    directory = out / f"flagship-{name}"
    ns.train_supernet(
        PLAN["space"],
        data,
        epochs=epochs,
        seed=seed,
        threads=1,
        options={**PLAN["shared"], **PLAN["supernet"], **keys},
        out=directory,
        resume=directory.exists(),
    )
    supernet = ns.load_supernet(directory, data=data)
    space, evaluator = supernet.space, supernet.evaluator
    times = round(last_line(directory)["train_macs"] / supernet_compute(seed), 1)
    keep_accuracies(name, times, evaluator, data, epochs=epochs, seed=seed, directory=directory)
    if done(kind="flagship", training=name):
        return
    best = max(small(space, seed), key=lambda network: evaluator.accuracy(network).value)
    for place, network in zip(NETWORKS, (space.largest, space.smallest, best), strict=True):
        line = {"kind": "flagship", "training": name, "name": place, "seed": seed, "epochs": epochs}
        line |= {"macs": macs(lower(space, network)), "genes": list(space.encode(network))}
        line |= {"val": evaluator.accuracy(network).value}
        line |= {"test": tested(evaluator.subnet(network), data)}
        keep({**line, **last_line(directory)})


def train_flagship_alone(name: str, networks: list[str], path: Path, out: Path) -> None:
    """The networks of a long training, each alone with as many images."""
    for found in results(kind="flagship", training=name):
        wanted = {"training": name, "name": found["name"], "seed": found["seed"]}
        if found["name"] not in networks or done(kind="flagship-alone", **wanted):
            continue
        data = ns.load_data(f"imagefolder:{path}", val_share=PLAN["val_share"], seed=found["seed"])
        space = SearchSpace.load(PLAN["space"])
        network = space.decode(found["genes"])
        keys = {**PLAN["shared"], **PLAN["alone"], "strategy": "one_network:OneNetwork"}
        keys |= {"genes": found["genes"], "epochs": found["epochs"], "seed": found["seed"]}
        directory = out / f"flagship-{name}-alone-{found['name'].replace(' ', '-')}"
        trained = train(space, data, recipe=TrainingRecipe(**keys), out=directory, resume=True)
        evaluator = Evaluator(trained, data)
        line = {"kind": "flagship-alone", **wanted, "macs": found["macs"]}
        line |= {"val": evaluator.accuracy(network).value}
        line |= {"test": tested(evaluator.subnet(network), data)}
        keep({**line, **last_line(directory)})


def small(space: SearchSpace, seed: int) -> list[Architecture]:
    """Random networks of 9 to 10 million multiply-accumulates."""
    rng = np.random.default_rng(seed)
    drawn = (space.sample(rng) for _ in range(SAMPLE))
    fits = (network for network in drawn if 9e6 <= macs(lower(space, network)) <= 10e6)
    return list(islice(fits, SMALL))


def train_alone(name: str, share: float, data: Data, seed: int, out: Path) -> None:
    """A hand-designed network alone, with this share of a supernet's compute."""
    if done(kind="alone", name=name, seed=seed, share=share):
        return
    space = hand_designed(name)
    cost = macs(lower(space, space.largest))
    images = share * supernet_compute(seed) / (3 * cost)
    epochs = max(1, math.ceil(images / len(data.train)))
    part = some(data, round(images / epochs), seed)
    recipe = TrainingRecipe(**{**PLAN["shared"], **PLAN["alone"]}, epochs=epochs, seed=seed)
    directory = out / f"{name}-{share:g}-{seed}"
    evaluator = Evaluator(train(space, part, recipe=recipe, out=directory, resume=True), data)
    network = evaluator.subnet(space.largest)
    keep(
        {
            "kind": "alone",
            "name": name,
            "seed": seed,
            "share": share,
            "macs": cost,
            "epochs": epochs,
            "images": len(part.train),
            "val": evaluator.accuracy(space.largest).value,
            "test": tested(network, data),
            **last_line(directory),
        }
    )


def hand_designed(name: str) -> SearchSpace:
    """The space of one network of plan.yaml: written out, or a ResNet of CIFAR-10 by its size."""
    network = PLAN["hand_designed"][name]
    shape = network if "stages" in network else resnet(**network)
    return SearchSpace.from_dict({"name": name, "resolution": 32, "num_classes": 10, **shape})


def resnet(width: int, blocks: int) -> dict[str, Any]:
    """A ResNet of three stages, the first of this width, with so many blocks each."""
    plain = {"kernel_size": 3, "activation": "relu"}
    stages = [
        {"op": "basic", "width": width << stage, "depth": blocks, "expand_ratio": 1}
        | {"stride": 1 if stage == 0 else 2, **plain}
        for stage in range(3)
    ]
    return {"stem": {"op": "conv", "width": width, "stride": 1, **plain}, "stages": stages}


def train_strategy(name: str, times: float, data: Data, seed: int, out: Path) -> None:
    """A supernet by one of plan.yaml's strategies, with so many times the compute N."""
    if done(kind="strategy", name=name, seed=seed, times=times):
        return
    own = {**OUTER, **PLAN["strategies"][name]}
    space = SearchSpace.load(PLAN["space"])
    if times == 1 and own == PLAN["supernet"]:  # trained already
        directory, epochs, part = out / f"supernet-{seed}", PLAN["epochs"], data
        evaluator = ns.load_supernet(directory, data=data).evaluator
    else:
        keys = {**PLAN["shared"], **own, "seed": seed}
        per_image = cost_of_an_image(TrainingRecipe(**keys, epochs=PLAN["epochs"]))
        images = times * supernet_compute(seed) / per_image
        epochs = max(1, math.ceil(images / len(data.train)))
        part = some(data, round(images / epochs), seed)
        directory = out / f"strategy-{name}-{times:g}-{seed}"
        recipe = TrainingRecipe(**keys, epochs=epochs)
        evaluator = Evaluator(train(space, part, recipe=recipe, out=directory, resume=True), data)
    keep_accuracies(name, times, evaluator, part, epochs=epochs, seed=seed, directory=directory)


def keep_accuracies(
    name: str,
    times: float,
    evaluator: Evaluator,
    data: Data,
    *,
    epochs: int,
    seed: int,
    directory: Path,
) -> None:
    """What a training by a strategy gave: the accuracies of the same networks of each."""
    space, rng = SearchSpace.load(PLAN["space"]), np.random.default_rng(0)
    networks = [space.largest, space.smallest, *(space.sample(rng) for _ in range(OTHERS))]
    line = {"kind": "strategy", "name": name, "seed": seed, "times": times}
    line |= {"epochs": epochs, "images": len(data.train)}
    line |= {"val": [evaluator.accuracy(network).value for network in networks]}
    line |= {"test": [tested(evaluator.subnet(network), data) for network in networks]}
    keep({**line, **last_line(directory)})


@lru_cache
def supernet_compute(seed: int) -> float:
    """N: the multiply-accumulates of a supernet's training."""
    keys = {**PLAN["shared"], **PLAN["supernet"], "epochs": PLAN["epochs"], "seed": seed}
    recipe = TrainingRecipe(**keys)
    steps = NUM_TRAIN // recipe.batch_size
    return cost_of_an_image(recipe) * recipe.epochs * steps * recipe.batch_size


def cost_of_an_image(recipe: TrainingRecipe) -> float:
    """The mean multiply-accumulates of training on one image, over all steps of a training."""
    space = SearchSpace.load(PLAN["space"])
    strategy = make_strategy(space, recipe)
    steps = NUM_TRAIN // recipe.batch_size
    costs, teacher = [], 0
    for step in range(recipe.epochs * steps):
        plan = strategy.step(
            StepPosition(step, steps), numpy_generator(recipe.seed, Stream.SUBNETS, step)
        )
        if plan.freeze_teacher:
            teacher = macs(lower(space, space.largest))
        costs.append(step_macs(space, plan.passes, teacher_macs=teacher))
    return float(np.mean(costs))


def some(data: Data, count: int, seed: int) -> Data:
    """The data with so many of its training images; validation and test images are complete."""
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:count]
    return replace(data, train=data.train.where(torch.from_numpy(np.sort(chosen))))


def last_line(directory: Path) -> dict[str, Any]:
    line = files.read_json_lines(directory / "metrics.jsonl")[-1]
    return {"train_macs": line["train_macs"], "seconds": line["seconds"]}


def tested(network: Subnet, data: Data) -> float:
    pixels = network.input_shape[-1]
    return measure_accuracy(network, data.test(), data, split="test", resolution=pixels).value


# -- latency and search ----------------------------------------------------------------------------


def measure(setting: dict[str, str], out: Path) -> None:
    """This machine's table for the space, and the latencies of the hand-designed networks.

    Both at the speed that the table's reference networks had when it was measured.
    """
    known = {line["name"] for line in results(kind="latency", **setting)}
    names = [name for name in PLAN["hand_designed"] if name not in known]
    if not names:
        return
    try:
        table = load_table(setting, out)
    except (ConfigError, TableError):  # no such device yet, or no table of it
        table = ns.profile_device(
            PLAN["space"],
            DEVICE,
            **setting,
            threads=1,
            seconds=PLAN["profile_seconds"],
            out=out / "latency_tables",
        )
    runtime = make_runtime(table.setting)
    sessions = []
    for name in names:
        space = hand_designed(name)
        torch.manual_seed(0)
        sessions.append(runtime.load(Supernet(space).extract(space.largest)))
    space = SearchSpace.load(PLAN["space"])
    timing = interleave(
        [session.run_ms for session in sessions],
        references=references(space, runtime),
        seconds=20.0,
    )
    rows = timing.measurements(reference_ms=reference_ms(table, space))
    for name, row in zip(names, rows, strict=True):
        line = {"kind": "latency", **setting, "name": name}
        keep({**line, "ms": row.median_ms, "noise": timing.noise_floor})


def search(setting: dict[str, str], data: Data, seed: int, out: Path) -> None:
    """The networks found at the hand-designed ones' latencies, exported and verified."""
    if done(kind="searched", **setting, seed=seed):
        return
    budgets = {line["name"]: line["ms"] for line in results(kind="latency", **setting)}
    if not budgets:  # `measure` waits for a quiet machine
        return
    supernet = ns.load_supernet(out / f"supernet-{seed}", data=data)
    table = load_table(setting, out)
    place = f"{setting['runtime']}-{setting['precision']}-{seed}"
    directory = out / f"search-{place}"
    result = ns.search_subnets(
        supernet,
        devices=[table],
        budgets=[f"{ms:.4f}ms" for ms in budgets.values()],
        trials=PLAN["trials"],
        seed=seed,
        out=directory,
        resume=directory.exists(),
        cold=True,
    )
    form = "int8" if setting["precision"] == "int8" else "onnx"
    exports = ns.export_subnets(
        result, formats=["weights", form], out=out / f"exports-{place}", data=data, force=True
    )
    places = {export.config.id: export.directory for export in exports}
    checks = {check.export.id: check for check in ns.verify_exports(exports, data=data)}
    for (name, ms), pick in zip(budgets.items(), result.picks, strict=True):
        check = checks[pick.architecture.id]
        line: dict[str, Any] = {"kind": "searched", **setting, "name": name, "seed": seed}
        line |= {"budget_ms": ms, "id": pick.architecture.id}
        line |= {"directory": str(places[check.export.id].relative_to(out))}
        line |= {"val": pick.candidate.number("accuracy")}
        line |= {"macs": macs(lower(supernet.space, pick.architecture))}
        line |= {"test": check.formats[form].accuracy.value}
        verified = check.latency[0].measured
        assert verified is not None
        line |= {"measured_ms": pick.latency[0].measured_ms, "verified_ms": verified.median_ms}
        line |= {"kept": verified.median_ms <= ms}
        keep(line)


def load_table(setting: dict[str, str], out: Path) -> LatencyTable:
    name = f"{DEVICE}/{setting['runtime']}-{setting['precision']}-b1-t1"
    return ns.load_table(name, tables=out / "latency_tables")


def compare(setting: dict[str, str], data: Data, seed: int, out: Path) -> None:
    """What search itself gives: random networks and uniform scaling at the same budgets."""
    supernet = ns.load_supernet(out / f"supernet-{seed}", data=data)
    target = target_from_table(load_table(setting, out), supernet.space)
    for found in results(kind="latency", **setting):
        name, ms = found["name"], found["ms"]
        if done(kind="others", **setting, name=name, seed=seed):
            continue
        random = list(near(supernet.space, target, ms, seed))
        tests = [
            tested(supernet.evaluator.subnet(other), data)
            for other in (*alike(supernet.space, target, ms), *random)
        ]
        line = {"kind": "others", **setting, "name": name, "seed": seed}
        keep({**line, "uniform": tests[0], "random": tests[1:]})


def fine_tune(setting: dict[str, str], data: Data, seed: int, out: Path) -> None:
    """The picks of a search, each trained on with a share of N."""
    for pick in results(kind="searched", **setting, seed=seed):
        if done(kind="tuned", id=pick["id"], seed=seed, name=pick["name"]):
            continue
        if not (out / pick["directory"]).is_dir():  # it was searched for elsewhere
            continue
        options = {**PLAN["shared"], **PLAN["fine_tuning"]}
        images = options.pop("share") * supernet_compute(seed) / (3 * pick["macs"])
        options |= {"whitening": False, "zero_gamma": False}  # a start's, and these have started
        epochs = max(1, math.ceil(images / len(data.train)))
        tuned = ns.finetune_export(
            out / pick["directory"],
            epochs=epochs,
            data=some(data, round(images / epochs), seed),
            options={**options, "seed": seed},
            formats=["weights"],
            out=out / f"tuned-{pick['name']}-{seed}",
            force=True,
        )
        line = {"kind": "tuned", **setting, "name": pick["name"], "seed": seed, "id": pick["id"]}
        keep({**line, "test": tested(ns.load(tuned.directory), data)})


def near(space: SearchSpace, target: Target, ms: float, seed: int) -> Iterator[Architecture]:
    """Random networks predicted to take up to 5 % less than the budget."""
    genes = space.sample_genes(np.random.default_rng(seed), SAMPLE)
    predicted = target.predictor.predict_genes(genes)
    inside = np.flatnonzero((predicted <= ms) & (predicted > 0.95 * ms))
    yield from space.decode_many(genes[inside[: PLAN["random_networks"]]])


def alike(space: SearchSpace, target: Target, ms: float) -> Iterator[Architecture]:
    """Uniform scaling: every gene at the same share of its choices, the largest within budget."""
    shares = np.linspace(1, 0, 101)
    genes = np.array(
        [[round(share * (len(gene.choices) - 1)) for gene in space.genes] for share in shares],
        dtype=np.uint8,
    )
    inside = np.flatnonzero(target.predictor.predict_genes(genes) <= ms)
    yield from space.decode_many(genes[inside[:1]])


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
    from rich.console import Console

    files.append_json_line(RESULTS, line)
    Console().print(line)


if __name__ == "__main__":
    main()
