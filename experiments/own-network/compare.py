"""A trained network at half its latency: adopted and searched, cut uniformly, or pruned.

    python experiments/own-network/compare.py base --data CIFAR10_FOLDER [--out runs/own-network]
    python experiments/own-network/compare.py supernet --seed 0 --data CIFAR10_FOLDER
    python experiments/own-network/compare.py report

The parts, in the order they need one another: `choose` (which width multiplier takes half of the
base network's time: one interleaved run, weights do not matter), `base` (the network all begin
with), then for each seed `supernet`, `uniform` and `pruned` (the base trained on by each method,
with the same MACs), `search` (on a quiet machine), `latency` (all of them in one interleaved run).
`all` does every part for every seed; `report` prints the section of README.md. What compare.jsonl
holds is not done again, and a training that was killed goes on from its checkpoint. `pruned` needs
Torch-Pruning, which is no dependency: `pip install --no-deps --target DIR torch-pruning`, and DIR
on PYTHONPATH. CIFAR10_FOLDER holds train/ and test/ of class folders. --quick checks every part
with a tiny network and few images; its results lie in --out.
"""

import argparse
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from page import write_part
from rich.console import Console
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

import nassearch as ns
from nassearch import files
from nassearch.adoption.adoption import adopt
from nassearch.adoption.elastic_space import Elasticity
from nassearch.data.dataset import Data
from nassearch.data.seeding import Stream, numpy_generator
from nassearch.latency.table import LatencyTable
from nassearch.latency.timing import Run, Timing, interleave, reference_ms, references
from nassearch.networks import Subnet
from nassearch.networks.cost import count, macs
from nassearch.networks.onnx_graph import to_onnx
from nassearch.runtimes.onnx import OnnxRuntime, OnnxSession
from nassearch.setting import Setting
from nassearch.space import SearchSpace, lower
from nassearch.training.batch import epoch_batches
from nassearch.training.checkpoint import read_state, serialise
from nassearch.training.evaluation import measure_accuracy
from nassearch.training.metrics import step_macs
from nassearch.training.precision import autocast
from nassearch.training.schedule import StepPosition, learning_rate
from nassearch.training.state import make_optimizer
from nassearch.training.strategy import make_strategy
from nassearch.training.training_recipe import TrainingRecipe

HERE = Path(__file__).parent
PLAN: dict[str, Any] = yaml.safe_load((HERE / "compare.yaml").read_text())
METHODS = ("supernet", "uniform", "pruned", "search", "found")
PARTS = ("choose", "base", *METHODS, "latency", "all", "report")
SEARCHED, FOUND = ("searched", "searched-share"), ("found", "found-share")
SHAPE = (3, 32, 32)
_SAVE_SECONDS = 180
_PASSES = 3  # a training pass: forward, and backward to weights and inputs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/own-network"))
    parser.add_argument("--seed", type=int, help="by default every seed of compare.yaml")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        PLAN.update(PLAN["quick"])
    results = Results(given.out / "compare.jsonl" if given.quick else HERE / "compare.jsonl")
    if given.what == "report":
        text = section(results)
        Console().print(text)
        if not given.quick:
            write_part("compare.py", text)
        return
    torch.set_num_threads(1)
    comparison = Comparison(given.data, given.out, results)
    seeds = PLAN["seeds"] if given.seed is None else [given.seed]
    every = given.what == "all"
    if every or given.what == "choose":
        comparison.choose()
    if every or given.what == "base":
        comparison.train_base()
    for seed in seeds:
        for method in METHODS:
            if every or given.what == method:
                getattr(comparison, method)(seed)
    if every or given.what == "latency":
        comparison.latency()


class Results:
    """Lines of what was done, so that it is not done again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, **wanted: object) -> list[dict[str, Any]]:
        lines = files.read_json_lines(self.path)
        return [line for line in lines if all(line.get(k) == v for k, v in wanted.items())]

    def one(self, **wanted: object) -> dict[str, Any]:
        found = self.of(**wanted)
        if not found:
            raise SystemExit(f"{wanted} is missing: run that part before")
        return found[-1]

    def keep(self, line: Mapping[str, Any]) -> None:
        files.append_json_line(self.path, dict(line))
        Console().print(line)


# -- networks --------------------------------------------------------------------------------------


def base_network() -> ResNet:
    """torchvision's ResNet-18 for images of 32 pixels, with other widths."""
    width = PLAN["base"]["width"]
    torch.manual_seed(0)
    network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=10, zero_init_residual=True)
    network.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
    network.bn1 = nn.BatchNorm2d(width)
    network.maxpool = nn.Identity()  # type: ignore[assignment]
    network.inplanes = width
    for number in range(4):
        stride = 1 if number == 0 else 2
        stage = network._make_layer(BasicBlock, width << number, 2, stride=stride)
        setattr(network, f"layer{number + 1}", stage)
    network.fc = nn.Linear(width << 3, 10)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
    return network


def cut(network: nn.Module, share: float) -> Subnet:
    """The network with this share of every width, the channels kept that adoption sorts first.

    Importance is the L1 norm of what reads a channel, over whole dependency groups: the same order
    in which the supernet's networks take their channels.
    """
    elasticity = Elasticity(width=(share,), inner=(share,), depth=())
    adoption = adopt(network.eval(), torch.zeros(1, *SHAPE), elasticity=elasticity)
    return adoption.supernet.extract(adoption.space.smallest)


def pruned(network: nn.Module, ratio: float) -> nn.Module:
    """The network as Torch-Pruning prunes it: globally, by the magnitude of whole groups."""
    import torch_pruning

    torch_pruning.pruner.BasePruner(
        network,
        torch.zeros(1, *SHAPE),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        round_to=PLAN["pruning"]["round_to"],
        ignored_layers=[network.fc],
    ).step()
    return network


def cost_of(network: nn.Module) -> int:
    return count(network.eval(), torch.zeros(1, *SHAPE), name="the network").macs


# -- training one network --------------------------------------------------------------------------


@dataclass
class Learning:
    """A plain network's training under way, with the package's batches, optimizer and schedule."""

    network: nn.Module
    data: Data
    recipe: TrainingRecipe
    step: int = 0
    device = torch.device("cpu")

    @property
    def steps_per_epoch(self) -> int:
        return len(self.data.train) // self.recipe.batch_size

    @property
    def position(self) -> StepPosition:
        return StepPosition(self.step, self.steps_per_epoch)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.network, self.recipe)

    def train(self, path: Path) -> float:
        """Train to the end, from the checkpoint at `path` where there is one; the seconds."""
        seconds, saved = 0.0, read_state(path) if path.exists() else None
        if saved is not None:
            self.network.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, seconds = saved["step"], saved["seconds"]
        self.network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        began, last = time.monotonic() - seconds, time.monotonic()
        while self.step < self.recipe.epochs * self.steps_per_epoch:
            for images, targets in epoch_batches(self):
                loss = self._learn(images, targets)
                self.step += 1
                if time.monotonic() - last > _SAVE_SECONDS:
                    last = time.monotonic()
                    self._save(path, last - began)
                    Console().print(f"{path.stem}: epoch {self.position.epochs:.2f}, loss {loss}")
        self._save(path, time.monotonic() - began)
        self.network.eval()
        return time.monotonic() - began

    def _learn(self, images: Tensor, targets: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.position.epochs)
        with autocast(self.device, self.recipe.precision):
            logits = self.network(images)
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return round(loss.item(), 3)

    def _save(self, path: Path, seconds: float) -> None:
        content = {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": seconds,
        }
        files.write_bytes(path, serialise(content))


def recipe(*keys: Mapping[str, Any], **others: Any) -> TrainingRecipe:
    merged: dict[str, Any] = dict(PLAN["shared"])
    for more in (*keys, others):
        merged |= more
    return TrainingRecipe(**merged)


# -- the comparison --------------------------------------------------------------------------------


class Comparison:
    """The parts, over the images and the directory of one comparison."""

    def __init__(self, images: Path | None, out: Path, results: Results) -> None:
        self._images, self.out, self.results = images, out, results
        files.make_directory(out)

    @cached_property
    def data(self) -> Data:
        """The images, split alike for every seed: nothing validates that the base was taught."""
        if self._images is None:
            raise SystemExit("name the images with --data")
        data = ns.load_data(f"imagefolder:{self._images}", val_share=PLAN["val_share"], seed=0)
        return some(data, PLAN["images"], 0) if "images" in PLAN else data

    def choose(self) -> None:
        """The width multiplier whose network takes the share of the base's time."""
        if self.results.of(kind="chosen", method="uniform"):
            return
        plan = PLAN["uniform_shares"]
        shares = [step / plan["of"] for step in range(plan["from"], plan["to"] + 1)]
        self._choose("uniform", {share: cut(base_network(), share) for share in shares})

    def train_base(self) -> None:
        if self.results.of(kind="trained", method="base"):
            return
        keys = dict(PLAN["base"])
        del keys["width"]
        learning = Learning(base_network(), self.data, recipe(keys, seed=0))
        seconds = learning.train(self.out / "base.pt")
        self._keep_trained("base", 0, learning, seconds)

    def supernet(self, seed: int) -> None:
        """The base adopted with its weights, and trained on as a supernet."""
        if self._has_trained("supernet", seed):
            return
        run = self.out / f"supernet-{PLAN['further']['lr']}-{seed}"
        began = time.monotonic()
        trained = ns.train_supernet(
            None,
            self.data,
            start_from=self._adopted(),
            seed=seed,
            threads=1,
            options={**PLAN["shared"], **PLAN["further"], **PLAN["supernet"]},
            out=run,
            resume=(run / "checkpoints").exists(),
        )
        space, evaluator = trained.space, trained.evaluator
        line: dict[str, Any] = {"kind": "trained", "method": "supernet", "seed": seed}
        line |= {"lr": PLAN["further"]["lr"]}
        line |= {"networks": space.size(), "macs": macs(lower(space, space.largest))}
        line |= {"val": evaluator.accuracy(space.largest).value}
        line |= {"smallest_val": evaluator.accuracy(space.smallest).value}
        metrics = files.read_json_lines(run / "metrics.jsonl")[-1]
        line |= {"train_macs": metrics["train_macs"], "seconds": time.monotonic() - began}
        self.results.keep(line)

    def uniform(self, seed: int) -> None:
        if not self._has_trained("uniform", seed):
            share = self.results.one(kind="chosen", method="uniform")["setting"]
            self._train_on("uniform", seed, cut(self._base(), share))

    def pruned(self, seed: int) -> None:
        if self._has_trained("pruned", seed):
            return
        if not self.results.of(kind="chosen", method="pruned"):
            plan = PLAN["pruning"]
            ratios = np.linspace(plan["from"], plan["to"], plan["steps"]).round(4).tolist()
            self._choose("pruned", {ratio: pruned(self._base(), ratio) for ratio in ratios})
        ratio = self.results.one(kind="chosen", method="pruned")["setting"]
        self._train_on("pruned", seed, pruned(self._base(), ratio))

    def search(self, seed: int) -> None:
        """The supernet's best networks within the share, and within what the uniform cut takes."""
        if all(self._has_trained(name, seed) for name in SEARCHED):
            return
        rate = PLAN["further"]["lr"]
        run, directory = f"supernet-{rate}-{seed}", f"search-{rate}-{seed}"
        for line, network in self._picks(SEARCHED, seed, run, directory):
            line |= {"kind": "trained", "lr": rate}
            self.results.keep({**line, **self._accuracies(network)})

    def found(self, seed: int) -> None:
        """The same of the network as it was adopted: what is found gets all the compute."""
        if not all(self.results.of(kind="picked", method=name, seed=seed) for name in FOUND):
            for line, network in self._picks(FOUND, seed, "adopted", f"found-{seed}"):
                self.results.keep({"kind": "picked", **line, **self._accuracies(network)})
        supernet = ns.load_supernet(self._adopted(), data=self.data)
        for name in FOUND:
            if not self._has_trained(name, seed):
                genes = self.results.one(kind="picked", method=name, seed=seed)["genes"]
                network = supernet.evaluator.subnet(supernet.space.decode(genes))
                self._train_on(name, seed, network)

    def _picks(
        self, names: Sequence[str], seed: int, run: str, directory: str
    ) -> Iterator[tuple[dict[str, Any], Subnet]]:
        """What a search of a run finds within what the uniform cut takes, and within the share."""
        shares = (self.results.one(kind="chosen", method="uniform")["share"], PLAN["share"])
        self._adopted()
        supernet = ns.load_supernet(self.out / run, data=self.data)
        table = self._table()
        base_ms = self._base_ms(table, supernet.space)
        found = ns.search_subnets(
            supernet,
            devices=[table],
            budgets=[f"{share * base_ms:.4f}ms" for share in shares],
            trials=PLAN["trials"],
            seed=seed,
            out=self.out / directory,
            resume=(self.out / directory).exists(),
            cold=True,
        )
        for name, share, pick in zip(names, shares, found.picks, strict=True):
            network = supernet.evaluator.subnet(pick.architecture)
            line: dict[str, Any] = {"method": name, "seed": seed}
            line |= {"genes": supernet.space.encode(pick.architecture), "share": share}
            line |= {"budget_ms": share * base_ms, "measured_ms": pick.latency[0].measured_ms}
            line |= {"id": pick.architecture.id, "macs": macs(network.specs)}
            yield line, network

    def latency(self) -> None:
        """Every network of the comparison in one interleaved run."""
        networks: dict[str, nn.Module] = {"base": self._base()}
        for method, shrink in (("uniform", cut), ("pruned", pruned)):
            for line in self.results.of(kind="chosen", method=method):
                networks[method] = shrink(self._base(), line["setting"])
        for line in self.results.of():
            if "genes" in line:
                architecture = self._space().decode(line["genes"])
                subnet = Subnet(lower(self._space(), architecture)).eval()
                networks[f"{line['method']}-{line['id']}"] = subnet
        timing = self._time(list(networks.values()))
        medians = timing.medians_ms / timing.medians_ms[0]
        line: dict[str, Any] = {"kind": "latency", "base_ms": float(timing.medians_ms[0])}
        line |= {"shares": dict(zip(networks, medians.round(4).tolist(), strict=True))}
        self.results.keep({**line, "noise": timing.noise_floor, "date": time.strftime("%F")})

    # -- their pieces

    def _has_trained(self, method: str, seed: int) -> bool:
        wanted = {"method": method, "seed": seed, "lr": PLAN["further"]["lr"]}
        return bool(self.results.of(kind="trained", **wanted))

    def _base(self) -> nn.Module:
        """The trained base network."""
        network = base_network()
        network.load_state_dict(self._state(self.out / "base.pt"))
        return network.eval()

    def _state(self, path: Path) -> dict[str, Tensor]:
        if not path.exists():
            raise SystemExit(f"{path} is missing: run that part before")
        state: dict[str, Tensor] = read_state(path)["model"]
        return state

    def _adopted(self) -> Path:
        run = self.out / "adopted"
        if not (run / "recipe.yaml").exists():  # which is written last
            shutil.rmtree(run, ignore_errors=True)
            ns.adopt(self._base(), SHAPE, data=self.data, out=run)
        return run

    def _space(self) -> SearchSpace:
        return ns.load_space(self._adopted() / "space.yaml")

    def _choose(self, method: str, networks: Mapping[float, nn.Module]) -> None:
        """Keep the setting whose latency is nearest below the share of the base's.

        Of the base's time a uniform cut takes steps; the others are held to the step it takes.
        """
        most = PLAN["share"]
        for line in self.results.of(kind="chosen", method="uniform"):
            most = line["share"]
        timing = self._time([base_network(), *networks.values()])
        shares = timing.medians_ms[1:] / timing.medians_ms[0]
        measured = dict(zip(networks, shares.round(4).tolist(), strict=True))
        inside = [setting for setting, share in measured.items() if share <= most]
        if not inside:
            raise SystemExit(f"{method}: none is within the budget, {measured}")
        costs = {setting: cost_of(networks[setting]) for setting in inside}
        best = max(inside, key=lambda setting: (costs[setting], measured[setting]))
        line: dict[str, Any] = {"kind": "chosen", "method": method, "setting": best}
        line |= {"share": measured[best], "macs": costs[best], "measured": measured}
        self.results.keep({**line, "noise": timing.noise_floor})

    def _time(self, networks: Sequence[nn.Module]) -> Timing:
        runtime = OnnxRuntime(Setting("here", "onnxruntime", "fp32", batch=1, threads=1))
        runs = [loaded(runtime, network) for network in networks]
        return interleave(runs, seconds=PLAN["timing_seconds"])

    def _table(self) -> LatencyTable:
        """This machine's table for the space: profiled once."""
        tables = self.out / "latency_tables"
        if not tables.exists():
            return ns.profile_device(
                self._adopted() / "space.yaml",
                "here",
                **PLAN["setting"],
                threads=1,
                seconds=PLAN["profile_seconds"],
                out=tables,
            )
        name = f"here/{PLAN['setting']['runtime']}-{PLAN['setting']['precision']}-b1-t1"
        return ns.load_table(name, tables=tables)

    def _base_ms(self, table: LatencyTable, space: SearchSpace) -> float:
        """The base network's latency at the speed that the table's references had."""
        runtime = OnnxRuntime(table.setting)
        timing = interleave(
            [loaded(runtime, self._base())],
            references=references(space, runtime),
            seconds=PLAN["timing_seconds"],
        )
        (row,) = timing.measurements(reference_ms=reference_ms(table, space))
        return row.median_ms

    def _train_on(self, method: str, seed: int, network: nn.Module) -> None:
        """Train a smaller network on with the compute that the supernet had."""
        cost = cost_of(network)
        images = further_macs(self._space()) / (_PASSES * cost)
        epochs = max(1, math.ceil(images / len(self.data.train)))
        part = some(self.data, round(images / epochs), seed)
        keys = {"epochs": epochs, "seed": seed}
        learning = Learning(network, part, recipe(PLAN["further"], keys))
        seconds = learning.train(self.out / f"{method}-{learning.recipe.lr:g}-{seed}.pt")
        self._keep_trained(method, seed, learning, seconds)

    def _keep_trained(self, method: str, seed: int, learning: Learning, seconds: float) -> None:
        cost = cost_of(learning.network)
        line: dict[str, Any] = {"kind": "trained", "method": method, "seed": seed}
        line |= {"lr": learning.recipe.lr}
        line |= {"macs": cost, "epochs": learning.recipe.epochs, "seconds": round(seconds)}
        line |= {"images": len(learning.data.train)}
        seen = learning.step * learning.recipe.batch_size
        line |= {"train_macs": _PASSES * cost * seen}
        self.results.keep({**line, **self._accuracies(learning.network)})

    def _accuracies(self, network: nn.Module) -> dict[str, float]:
        splits: dict[str, Callable[[], Any]] = {
            "val": lambda: self.data.val,
            "test": self.data.test,
        }
        return {
            split: measure_accuracy(
                network.eval(), images(), self.data, split=split, resolution=SHAPE[1]
            ).value
            for split, images in splits.items()
        }


def loaded(runtime: OnnxRuntime, network: nn.Module) -> Run:
    """A network of any kind in ONNX Runtime, ready to be timed."""
    images = np.random.default_rng(0).standard_normal((1, *SHAPE), dtype=np.float32)
    session = runtime.session(to_onnx(network, SHAPE))
    return OnnxSession(session, {session.get_inputs()[0].name: images}).run_ms


@lru_cache
def further_macs(space: SearchSpace) -> float:
    """The multiply-accumulates of the supernet's training: what every method gets."""
    chosen = recipe(PLAN["further"], PLAN["supernet"], seed=0)
    strategy = make_strategy(space, chosen)
    total = PLAN.get("images", round(50_000 * (1 - PLAN["val_share"])))
    steps = total // chosen.batch_size
    costs = [
        step_macs(
            space,
            strategy.step(
                StepPosition(step, steps), numpy_generator(chosen.seed, Stream.SUBNETS, step)
            ).passes,
        )
        for step in range(chosen.epochs * steps)
    ]
    return float(sum(costs)) * chosen.batch_size


def some(data: Data, number: int, seed: int) -> Data:
    """The data with so many of its training images; validation and test images are complete."""
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:number]
    return replace(data, train=data.train.where(torch.from_numpy(np.sort(chosen))))


# -- report ----------------------------------------------------------------------------------------


AIM = 1.5  # points that searching should be ahead of cutting uniformly
TITLES = {
    "found": "adopted, searched at the cut's latency, what was found trained on",
    "found-share": "adopted, searched at the share, what was found trained on",
    "searched": "adopted, trained as a supernet, searched at the cut's latency",
    "searched-share": "adopted, trained as a supernet, searched at the share",
    "uniform": "uniform width multiplier",
    "pruned": "Torch-Pruning",
}


def section(results: Results) -> str:
    """The section of README.md."""
    base = results.of(kind="trained", method="base")
    text = ["## At half its latency", ""]
    text += [
        "`python experiments/own-network/compare.py all --data CIFAR10_FOLDER` makes the lines of",
        "compare.jsonl, `compare.py report` this section. torchvision's ResNet-18 with a 3x3 stem,",
        "no max pooling and half the widths, trained on CIFAR-10 for"
        f" {PLAN['base']['epochs']} epochs, then brought to",
        f"{PLAN['share']:.0%} of its latency (ONNX Runtime, fp32, one thread), each method with",
        f"the multiply-accumulates of {PLAN['supernet']['epochs']} epochs of the supernet, and the"
        " same recipe.",
    ]
    if not base:
        return "\n".join([*text, "", "Not run yet."]) + "\n"
    latency = results.of(kind="latency")
    shares = latency[-1]["shares"] if latency else {}
    text += ["", "| network | rate | latency | MACs | test accuracy | seeds |", "|---" * 6 + "|"]
    text.append(f"| as it was trained | | 100% | {_million(base)} | {base[-1]['test']:.2%} | 1 |")
    for rate in sorted({line["lr"] for line in results.of(kind="trained") if "lr" in line}):
        for method, title in TITLES.items():
            lines = results.of(kind="trained", method=method, lr=rate)
            if lines:
                text.append(f"| {title} | {rate:g} | {_share(results, lines, shares)} |"
                            f" {_million(lines)} | {_spread(lines)} | {len(lines)} |")  # fmt: skip
    rate = PLAN["further"]["lr"]
    for method, title in TITLES.items():
        gains = [] if method in ("uniform", "pruned") else _gains(results, method, rate)
        if gains:
            text += [
                "",
                f"{title[0].upper()}{title[1:]}: {statistics.mean(gains):+.2f} points over",
            ]
            text[-1] += f" the uniform multiplier ({', '.join(f'{gain:+.2f}' for gain in gains)})."
    gains = _gains(results, "found-share", rate)
    if gains:
        least = statistics.mean(gains)
        verdict = "reached" if least >= AIM else f"missed by {AIM - least:.2f}"
        text += ["", f"Asked at half of the latency: {AIM} points, **{verdict}**."]
    for method in TITLES:
        for line in results.of(kind="chosen", method=method):
            kind = "multiplier" if method == "uniform" else "pruning ratio"
            text += ["", f"The {kind} {line['setting']:g} was chosen at {line['share']:.1%} of the"]
            text[-1] += f" latency, of {len(line['measured'])} in one interleaved run."
    return "\n".join(text) + "\n"


def _gains(results: Results, method: str, rate: float) -> list[float]:
    """Points of test accuracy by which a method is ahead of the uniform cut, by seed."""
    ours, uniform = (
        {line["seed"]: 100 * line["test"] for line in results.of(kind="trained", method=m, lr=rate)}
        for m in (method, "uniform")
    )
    return [ours[seed] - uniform[seed] for seed in sorted(ours.keys() & uniform.keys())]


def _million(lines: Sequence[Mapping[str, Any]]) -> str:
    return f"{statistics.mean(line['macs'] for line in lines) / 1e6:.1f} M"


def _share(
    results: Results, lines: Sequence[Mapping[str, Any]], shares: Mapping[str, float]
) -> str:
    """The mean latency of the networks of some lines, as a share of the base network's."""
    measured = []
    for line in lines:
        picked = results.of(kind="picked", method=line["method"], seed=line["seed"])
        network = line.get("id") or (picked[-1]["id"] if picked else None)
        name = f"{line['method']}-{network}" if network else line["method"]
        if name in shares:
            measured.append(shares[name])
    return f"{statistics.mean(measured):.1%}" if measured else "not measured"


def _spread(lines: Sequence[Mapping[str, Any]]) -> str:
    tests = [100 * line["test"] for line in lines]
    spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
    return f"{statistics.mean(tests):.2f}{spread}%"


if __name__ == "__main__":
    main()
