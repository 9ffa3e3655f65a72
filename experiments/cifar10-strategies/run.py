"""Train CIFAR-10 supernets by every strategy at equal compute and record what each size reaches.

    python experiments/cifar10-strategies/run.py train --data CIFAR10_FOLDER [--processes 2]
    python experiments/cifar10-strategies/run.py seconds --data CIFAR10_FOLDER
    python experiments/cifar10-strategies/run.py report

`train` makes every run of conditions.yaml that results.jsonl beside this file does not hold yet; a
run that was killed goes on from its checkpoint under --out. `seconds` times steps of every
condition in turn. `report` prints the tables and draws the plots. CIFAR10_FOLDER holds train/ and
test/ of class folders.
"""

import argparse
import fcntl
import multiprocessing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from nassearch import files
from nassearch.data.dataset import Data
from nassearch.data.loading import load_data
from nassearch.data.seeding import Stream, numpy_generator
from nassearch.networks.cost import macs
from nassearch.space import Architecture, SearchSpace, lower
from nassearch.space.architecture import Stage
from nassearch.training.evaluation import Evaluator, measure_accuracy
from nassearch.training.metrics import step_macs
from nassearch.training.schedule import StepPosition
from nassearch.training.strategy import make_strategy
from nassearch.training.trainer import train
from nassearch.training.training_recipe import TrainingRecipe, recipe_keys

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
PLAN = yaml.safe_load((HERE / "conditions.yaml").read_text())
TOLERANCE = 1.02
ALONE = "alone-"
LATER = ("half", "few", "long")  # groups of conditions, in the order they are trained


@dataclass(frozen=True)
class Job:
    """One training: a condition and a seed, or one size alone and a seed."""

    name: str
    seed: int
    space: SearchSpace
    recipe: TrainingRecipe
    measured: tuple[tuple[float, Architecture], ...]
    """The networks to test, by their share of the way from the smallest size to the largest."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "seconds", "report"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10-strategies"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "train":
        workers = [
            multiprocessing.get_context("spawn").Process(
                target=work, args=(arguments.data, arguments.out)
            )
            for _ in range(arguments.processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    elif arguments.what == "seconds":
        from timing import time_conditions

        space = SearchSpace.load(str(HERE / "space.yaml"))
        conditions = PLAN["conditions"].items()
        recipes = {name: recipe_of(space, changes, 0) for name, changes in conditions}
        data = load_data(f"imagefolder:{arguments.data}")
        time_conditions(space, some(data, PLAN["images"]), recipes)
    else:
        from tables import report

        report()


# -- the jobs --------------------------------------------------------------------------------------


def plan() -> list[tuple[str, int]]:
    """Every training by name and seed: first what runs at full compute or nearly, then the rest."""
    alone = [f"{ALONE}{share:g}" for share in PLAN["standalone"]]
    seeds, conditions = PLAN["seeds"], PLAN["conditions"]
    first = [name for name in conditions if not name.startswith(LATER)]
    groups = [[*first, *alone]]
    groups += [[name for name in conditions if name.startswith(kind)] for kind in LATER]
    return [(name, seed) for group in groups for seed in seeds for name in group]


def job(name: str, seed: int) -> Job:
    space = SearchSpace.load(str(HERE / "space.yaml"))
    networks = sizes(space)
    if not name.startswith(ALONE):
        recipe = recipe_of(space, PLAN["conditions"][name], seed)
        return Job(name, seed, space, recipe, networks)
    share = float(name.removeprefix(ALONE))
    network = only(space, dict(networks)[share])
    epochs = recipe_of(space, PLAN["conditions"]["delayed-shrinking"], seed).epochs
    settings = {**PLAN["training"], "strategy": "single-path", "epochs": epochs}
    recipe = recipe_for(settings, seed=seed)
    return Job(name, seed, network, recipe, ((share, network.largest),))


def recipe_of(space: SearchSpace, changes: dict[str, Any], seed: int) -> TrainingRecipe:
    """The condition's recipe with as many epochs as its share of the compute pays for."""
    changes = dict(changes)
    share, images = changes.pop("compute", 1.0), changes.pop("images", PLAN["images"])
    reference = {**PLAN["training"], **PLAN["conditions"][PLAN["reference"]], "seed": seed}
    whole = recipe_for(reference, epochs=PLAN["reference_epochs"])
    budget = share * compute(space, whole, PLAN["images"])
    settings = {**PLAN["training"], **changes, "seed": seed}
    tried = recipe_for(settings, epochs=4)
    epochs = int(5 * TOLERANCE * budget / compute(space, tried, images)) + 2
    while True:  # compute is nearly in proportion to epochs, so this ends at once
        recipe = recipe_for(settings, epochs=epochs)
        if compute(space, recipe, images) <= TOLERANCE * budget:
            return recipe
        epochs -= 1


def recipe_for(settings: dict[str, Any], **more: int) -> TrainingRecipe:
    """The recipe, without the keys that its strategy does not read."""
    known = recipe_keys(settings["strategy"])
    return TrainingRecipe(**{k: v for k, v in {**settings, **more}.items() if k in known})


@lru_cache
def compute(space: SearchSpace, recipe: TrainingRecipe, images: int) -> float:
    """Multiply-accumulates of the whole training: the very steps that it will take."""
    strategy = make_strategy(space, recipe)
    steps = images // recipe.batch_size
    total, taught = 0.0, 0
    for number in range(recipe.epochs * steps):
        moment = StepPosition(number, steps)
        step = strategy.step(moment, numpy_generator(recipe.seed, Stream.SUBNETS, number))
        if step.freeze_teacher:
            taught = macs(lower(space, space.largest))
        total += recipe.batch_size * step_macs(space, step.passes, teacher_macs=taught)
    return total


def sizes(space: SearchSpace) -> tuple[tuple[float, Architecture], ...]:
    """Networks evenly spaced in multiply-accumulates, whose blocks are alike within a stage."""
    alike = [each for each in space.enumerate() if all(map(uniform, each.stages))]
    counted = np.array([macs(lower(space, each)) for each in alike])
    wanted = np.linspace(counted.min(), counted.max(), PLAN["test_sizes"])
    chosen = [int(np.abs(counted - size).argmin()) for size in wanted]
    return tuple(zip(np.linspace(0, 1, len(wanted)), (alike[each] for each in chosen), strict=True))


def uniform(stage: Stage) -> bool:
    return len(set(stage.blocks)) == 1


def only(space: SearchSpace, network: Architecture) -> SearchSpace:
    """The space that holds this network alone."""
    definition = space.to_dict()
    for stage, chosen in zip(definition["stages"], network.stages, strict=True):
        stage["depth"] = len(chosen.blocks)
        stage["width"] = chosen.width
        for name in ("kernel_size", "expand_ratio"):
            stage[name] = dict(chosen.blocks[0].choices)[name]
    alone = SearchSpace.from_dict({**definition, "name": f"{space.name}_alone"})
    assert alone.size() == 1
    return alone


# -- one training ----------------------------------------------------------------------------------


def work(data_folder: Path, out: Path) -> None:
    """One process: whatever has no result yet and is not in another process's hands."""
    torch.set_num_threads(1)
    whole = load_data(f"imagefolder:{data_folder}")
    for name, seed in plan():
        directory = files.make_directory(out / f"{name}-{seed}")
        with (directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if (name, seed) not in done():
                images = PLAN["conditions"].get(name, {}).get("images", PLAN["images"])
                result = run(job(name, seed), some(whole, images), directory)
                files.append_json_line(RESULTS, result)
                print_line(result)


def some(data: Data, images: int) -> Data:
    """The data with so many of its training images; validation and test images are complete."""
    chosen = np.random.default_rng(0).permutation(len(data.train))[:images]
    return replace(data, train=data.train.where(torch.from_numpy(np.sort(chosen))))


def done() -> set[tuple[str, int]]:
    return {(line["condition"], line["seed"]) for line in files.read_json_lines(RESULTS)}


def run(job: Job, data: Data, directory: Path) -> dict[str, Any]:
    supernet = train(job.space, data, recipe=job.recipe, out=directory, resume=True)
    evaluator, test = Evaluator(supernet, data), data.test()
    line = files.read_json_lines(directory / "metrics.jsonl")[-1]
    tested = []
    for share, network in job.measured:
        subnet = evaluator.subnet(network)
        right = measure_accuracy(subnet, test, data, split="test", resolution=network.resolution)
        counted = macs(lower(job.space, network))
        validated = evaluator.accuracy(network).value
        tested.append({"share": share, "macs": counted, "val": validated, "test": right.value})
    return {
        "condition": job.name,
        "seed": job.seed,
        "epochs": job.recipe.epochs,
        "train_macs": line["train_macs"],
        "seconds": line["seconds"],
        "networks": tested,
    }


def print_line(result: dict[str, Any]) -> None:
    from rich.console import Console

    accuracies = "  ".join(f"{each['test']:.2%}" for each in result["networks"])
    cost = f"{result['epochs']} epochs, {result['train_macs']:.3g} MACs, {result['seconds']:.0f} s"
    Console().print(f"{result['condition']} seed {result['seed']}: {accuracies}  ({cost})")


if __name__ == "__main__":
    main()
