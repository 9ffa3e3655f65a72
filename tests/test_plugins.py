"""A plugin of each kind in a package of its own: a whole job with them, and the contract tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nassearch as ns

TESTS = Path(__file__).parent
PLUGINS = '''
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nassearch.config import StrictModel
from nassearch.export.format import FormatOptions
from nassearch.ops.layer import ConvNorm, StaticOp
from nassearch.runtimes.fake import FakeRuntime, FakeSession
from nassearch.training.schedule import learning_rate
from nassearch.training.strategy import StepPlan, SubnetPass


class Op(StaticOp):
    """Two convolutions."""

    dimensions = {"kernel_size": True, "activation": False}
    is_local = True

    def __init__(self, spec):
        super().__init__(spec)
        act, channels = spec.get("activation"), spec.out_channels
        self.first = ConvNorm(spec.in_channels, channels, kernel_size=1, act=act)
        self.second = ConvNorm(
            channels, channels, kernel_size=spec.get("kernel_size"), stride=spec.stride, act=act
        )

    def forward(self, images):
        return self.second(self.first(images))


class StrategyOptions(StrictModel):
    largest_share: float = 0.5


class Strategy:
    """The largest network or a random one."""

    Options = StrategyOptions

    def __init__(self, space, recipe):
        self._space, self._recipe = space, recipe

    def step(self, position, rng):
        is_largest = rng.random() < self._recipe.options.largest_share
        subnet = self._space.largest if is_largest else self._space.sample(rng)
        return StepPlan((SubnetPass(subnet),), learning_rate(self._recipe, position.epochs))


class Runtime:
    """Latencies that are computed."""

    title = "mine"
    precisions = ("fp32", "int8")
    profiles_blocks = True
    graph_formats = {}
    on_gpu = False
    version = "mine 1"

    def __init__(self, setting):
        self._setting = setting

    def load(self, network):
        return FakeSession(network, self._setting)

    trace = load


class AlgorithmOptions(StrictModel):
    offset: int = 0


class Algorithm:
    """Networks drawn within the budgets."""

    Options = AlgorithmOptions

    def __init__(self, problem, region, options):
        self._problem, self._region = problem, region
        self._rng = np.random.default_rng(problem.seed + options.offset)
        self._known = set()

    def ask(self, count):
        exclude = {bytes(self._problem.space.encode(item)) for item in self._known}
        genes = self._region.sample(count, rng=self._rng, exclude=exclude)
        answer = [self._problem.space.decode(row.tolist()) for row in genes]
        self._known.update(answer)
        return answer

    def tell(self, candidate):
        self._known.add(candidate.architecture)


class Options(FormatOptions):
    half: bool = False


@dataclass(frozen=True)
class Format:
    """A script for torch alone."""

    options: Options = field(default_factory=Options)
    title = "TorchScript"
    file_name = "model.ts"
    imports = ("torch",)
    exact = True

    def write(self, subnet, path, *, data, progress):
        traced = torch.jit.trace(subnet.eval(), torch.zeros(1, *subnet.input_shape))
        torch.jit.save(traced, str(path))
        return {"torch": torch.__version__}

    def open(self, path):
        return torch.jit.load(str(path))

    def snippet(self):
        load = f'network = torch.jit.load("{self.file_name}")'
        return "import torch", load, "logits = network(images)"


def depth(architecture):
    """Blocks of a network."""
    return float(sum(len(stage.blocks) for stage in architecture.stages))


depth.is_cheap = True


class MeanWidth:
    """Channels of the stages' outputs, on average."""

    is_cheap = True
    direction = "max"

    def __init__(self, context):
        self._space = context.space

    def __call__(self, architecture):
        return float(np.mean([stage.width for stage in architecture.stages]))
'''
REGISTER = """
from nassearch.ops import OPS
from nassearch.runtimes import RUNTIMES
from nassearch.search.algorithms import ALGORITHMS
from nassearch.training.strategies import STRATEGIES

OPS["mine"] = "my_plugins:Op"
RUNTIMES["mine"] = "my_plugins:Runtime"
ALGORITHMS["mine"] = "my_plugins:Algorithm"
STRATEGIES["mine"] = "my_plugins:Strategy"
"""
SPACE = """
name: mine
resolution: 8
in_channels: 1
num_classes: 10
stem: {op: conv, width: 8, kernel_size: 3, stride: 1, activation: relu}
stages:
  - {op: "my_plugins:Op", width: [8, 16], depth: [1, 2], stride: 2, kernel_size: [3, 5]}
  - {op: mbconv, width: 16, depth: 1, stride: 2, kernel_size: 3, expand_ratio: [1, 2]}
head: {}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_plugins.py").write_text(PLUGINS)
    (tmp_path / "my_register.py").write_text(REGISTER)
    (tmp_path / "mine.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_plugins", raising=False)
    return tmp_path


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_whole_job_with_a_plugin_of_each_kind(package: Path) -> None:
    supernet = ns.train_supernet(
        "mine.yaml",
        "digits",
        strategy="my_plugins:Strategy",
        options={"largest_share": 0.25},
        epochs=1,
        threads=1,
    )
    table = ns.profile_device("mine.yaml", "box", runtime="my_plugins:Runtime", seconds=1)
    assert table.setting.runtime == "my_plugins:Runtime"
    assert any(key.startswith("my_plugins:Op-") for key in table.blocks)
    result = ns.search_subnets(
        supernet,
        devices=["box"],
        runtime="my_plugins:Runtime",
        objectives=["accuracy", "latency", "my_plugins:MeanWidth"],
        budgets=["70%", ("90%", "my_plugins:depth=2")],
        algorithm="my_plugins:Algorithm",
        algorithm_options={"offset": 7},
        trials=5,
    )
    for pick in result.picks:
        [claim] = pick.latency
        assert claim.measured_ms is not None
        assert claim.measured_ms <= claim.budget_ms
        widths = [stage.width for stage in pick.architecture.stages]
        mean = pick.candidate.values["my_plugins:MeanWidth"].value
        assert mean == pytest.approx(sum(widths) / len(widths))
    assert result.picks[1].candidate.values["my_plugins:depth"].value == 2
    exports = ns.export_subnets(result.picks, formats=["weights", "my_plugins:Format"])
    assert (exports[0].directory / "model.ts").is_file()
    [check] = ns.verify_exports(exports[:1], seconds=0.3)
    assert check.broken == []
    assert "my_plugins:Format" in check.formats


def test_the_contract_tests_run_over_plugins_that_are_listed(package: Path) -> None:
    rooms = ("contracts", "runtimes/test_runtimes.py", "search/test_algorithms.py")
    files = [TESTS / room for room in (*rooms, "training/test_strategies.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, files), "-k", "mine", "-m", "not slow", "-v"]
        + ["-p", "my_register", "-p", "no:xdist", "-p", "no:cacheprovider"],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(TESTS.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
    for room in ("test_extraction", "test_runtimes", "test_algorithms", "test_strategies"):
        assert room in done.stdout, f"no test of {room} ran"
