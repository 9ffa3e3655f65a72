"""Objectives: quantities of an architecture that a search can trade or bound."""

import hashlib
import inspect
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
from torch import nn

from nassearch import config
from nassearch.errors import ConfigError, NassearchError, SearchError
from nassearch.latency.target import Target
from nassearch.networks import block_cost
from nassearch.networks.activation_memory import PeakActivations, peak_elements
from nassearch.networks.cost import FLOAT_BYTES
from nassearch.networks.file_size import file_bytes
from nassearch.networks.zero_cost import StructuralScore
from nassearch.provenance import Estimate, Provenance
from nassearch.search.problem import Direction, Objective
from nassearch.setting import INT8
from nassearch.space import Architecture, BlockSpec, SearchSpace
from nassearch.space.additive import AdditiveCost, Floats, PolicyCost
from nassearch.space.search_space import Genes
from nassearch.training.evaluation import Z_95, Evaluator
from nassearch.training.evaluation import Accuracy as MeasuredAccuracy
from nassearch.training.sensitivity_record import SensitivityRecord
from nassearch.training.task import Metric

OBJECTIVES = {
    "accuracy": "nassearch.objectives:Accuracy",
    "loss": "nassearch.objectives:ValidationLoss",
    "latency": "nassearch.objectives:Latency",
    "macs": "nassearch.objectives:Macs",
    "params": "nassearch.objectives:Params",
    "peak_activation_bytes": "nassearch.objectives:PeakActivationBytes",
    "peak_memory_bytes": "nassearch.objectives:PeakMemoryBytes",
    "size_bytes": "nassearch.objectives:SizeBytes",
    "sensitivity": "nassearch.objectives:Sensitivity",
    "zero_cost": "nassearch.objectives:ZeroCost",
    "effectiveness": "nassearch.objectives:Effectiveness",
}
_DIRECTIONS = ("min", "max")


@dataclass(frozen=True)
class Context:
    """The ground of objectives; `supernet` names the weights that accuracies belong to."""

    space: SearchSpace
    targets: tuple[Target, ...] = ()
    evaluator: Evaluator | None = None
    supernet: str = ""
    sensitivity: Callable[[], SensitivityRecord] | None = None
    """Measures how much the largest network minds int8; None without images."""

    def trained_evaluator(self) -> Evaluator:
        """The evaluator; ConfigError where no supernet was trained."""
        if self.evaluator is None:
            raise ConfigError(
                "accuracy and loss need a trained supernet",
                where="objectives",
                fix="run 'nassearch train-supernet' first, or name images with --data",
            )
        return self.evaluator

    @property
    def precision(self) -> str:
        """The one that all targets run; float32 where they differ, or there is none."""
        found = {target.setting.precision for target in self.targets}
        return found.pop() if len(found) == 1 else "fp32"

    def classifying_evaluator(self) -> Evaluator:
        """The evaluator of networks that tell classes apart; ConfigError where these do not."""
        evaluator = self.trained_evaluator()
        evaluator.require_classes()
        return evaluator

    def label(self, target: Target) -> str:
        """The name that tells a target from the others: nothing, its device, or its setting."""
        if len(self.targets) == 1:
            return ""
        same = [item for item in self.targets if item.setting.device == target.setting.device]
        return target.setting.device if len(same) == 1 else str(target.setting)


class ObjectiveFunction(Protocol):
    """A callable Architecture -> float or Estimate: the one form of objective, shipped or a user's.

    A class is built from the Context first, and once for each target where it has
    `per_target = True`. What it may say beside is read from attributes of these names:
    `direction` ('min' unless it says 'max'), `unit`, `of_genes`, `minimum`, `evaluate_early_stop`,
    `source`, `setting` (see `search.problem.Objective`); `is_cheap = True` lets a plain function
    carry a budget: it is then called for every network that the search looks at.
    """

    def __call__(self, architecture: Architecture) -> float | Estimate: ...


def build(objective: str | Callable[..., Any], context: Context) -> list[Objective]:
    """The objectives called `objective`: one for each target in the case of latency.

    Args:
        objective: a name in OBJECTIVES, 'my_package.module:function', or the function itself.

    Raises:
        ConfigError: there is no such objective, or its direction is none.
    """
    if isinstance(objective, str):
        kind, function = objective, config.resolve(OBJECTIVES, objective, kind="objective")
    else:
        kind, function = getattr(objective, "__name__", type(objective).__name__), objective
    if isinstance(function, type):
        if getattr(function, "per_target", False):
            return [
                _objective(kind, function(context, target), context, device=context.label(target))
                for target in context.targets
            ]
        function = function(context)
    if not callable(function):
        raise ConfigError(
            f"is a {type(function).__name__}, not a function",
            where=f"objective {kind}",
            fix="an objective is a function Architecture -> float",
        )
    return [_objective(kind, function, context)]


def _objective(
    kind: str, function: ObjectiveFunction, context: Context, *, device: str = ""
) -> Objective:
    direction: Direction = getattr(function, "direction", "min")
    if direction not in _DIRECTIONS:
        raise ConfigError(
            f"direction is {direction!r}", where=f"objective {kind}", fix="'min' or 'max'"
        )

    def evaluate(architecture: Architecture) -> Estimate:
        return _estimate(kind, function, architecture)

    of_genes = getattr(function, "of_genes", None)
    if of_genes is None and getattr(function, "is_cheap", False):
        of_genes = _one_by_one(evaluate, context.space)
    return Objective(
        kind,
        direction,
        getattr(function, "unit", ""),
        evaluate,
        of_genes,
        getattr(function, "minimum", None),
        source=getattr(function, "source", None) or _code(kind, function),
        evaluate_early_stop=getattr(function, "evaluate_early_stop", None),
        device=device,
        setting=getattr(function, "setting", None),
    )


def _estimate(kind: str, function: ObjectiveFunction, architecture: Architecture) -> Estimate:
    """The function's value for an architecture; SearchError where that is no number."""
    try:
        value = function(architecture)
    except NassearchError:
        raise
    except Exception as error:
        raise SearchError(
            f"raised {type(error).__name__} for {architecture.id} ({' '.join(str(error).split())})",
            where=f"objective {kind}",
            fix="mend the function; --resume goes on with what was evaluated",
        ) from error
    if isinstance(value, Estimate):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise SearchError(
            f"returned a {type(value).__name__} for {architecture.id}, not a number",
            where=f"objective {kind}",
            fix="return a float",
        )
    return Estimate(float(value), Provenance(kind))


def _one_by_one(
    evaluate: Callable[[Architecture], Estimate], space: SearchSpace
) -> Callable[[Genes], Floats]:
    """A cheap function of one architecture, for many gene vectors; each is asked about once."""

    @lru_cache(maxsize=1 << 20)
    def value(genes: bytes) -> float:
        return evaluate(space.decode(list(genes))).value

    return lambda genes: np.array([value(row.tobytes()) for row in genes], dtype=np.float64)


def _code(kind: str, function: Callable[..., Any]) -> str:
    """A digest of a user's function: numbers of an edited one are not those of the old."""
    if kind in OBJECTIVES:
        return ""
    try:
        text = inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        text = repr(getattr(function, "__code__", function))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Accuracy:
    """Top-1 on validation images with recalibrated batch norm; expensive, cut short if hopeless."""

    direction = "max"

    def __init__(self, context: Context) -> None:
        self._evaluator = context.classifying_evaluator()
        self.source = context.supernet

    def __call__(self, architecture: Architecture) -> Estimate:
        return self.evaluate_early_stop(architecture, 0.0)

    def evaluate_early_stop(self, architecture: Architecture, at_least: float) -> Estimate:
        """The accuracy, or what shows already that it is below `at_least`."""
        measured = self._evaluator.accuracy(architecture, at_least=at_least)
        stopped_early = measured.num_images < self._evaluator.num_images
        return accuracy_estimate(measured, stopped_early=stopped_early)


def accuracy_estimate(accuracy: MeasuredAccuracy, *, stopped_early: bool = False) -> Estimate:
    """An accuracy with its interval and the images it was measured on."""
    images = Provenance("evaluated", split=accuracy.split, num_images=accuracy.num_images)
    return Estimate(
        accuracy.value,
        images,
        *accuracy.interval,
        stopped_early=stopped_early,
        loss=accuracy.loss,
        top5=accuracy.top5,
    )


class ValidationLoss:
    """Mean cross entropy on validation images, in nats, with recalibrated batch norm; expensive."""

    def __init__(self, context: Context) -> None:
        self._evaluator = context.classifying_evaluator()
        self.source = context.supernet

    def __call__(self, architecture: Architecture) -> Estimate:
        measured = self._evaluator.accuracy(architecture)
        images = Provenance("evaluated", split=measured.split, num_images=measured.num_images)
        assert measured.loss is not None and measured.loss_error is not None
        half = Z_95 * measured.loss_error
        return Estimate(measured.loss, images, measured.loss - half, measured.loss + half)


def accuracy_by(function: ObjectiveFunction, context: Context) -> Objective:
    """The objective `accuracy` as `function` gives it, with what it says beside of itself."""
    return _objective("accuracy", function, context)


def network_accuracy(
    evaluate: Callable[[nn.Module], float | tuple[float, float]], context: Context
) -> Objective:
    """The objective `accuracy` as a user's function of the extracted network measures it.

    Args:
        evaluate: takes the subnet, a plain module with recalibrated batch norm in evaluation mode,
            and returns its accuracy (more is better), or that and its standard error.
    """
    evaluator = context.trained_evaluator()
    name = getattr(evaluate, "__name__", type(evaluate).__name__)

    def measure(architecture: Architecture) -> float | Estimate:
        value = evaluate(evaluator.subnet(architecture))
        if not isinstance(value, tuple):
            return value
        mean, error = value
        return Estimate(mean, Provenance(name), mean - 1.96 * error, mean + 1.96 * error)

    measure.direction = "max"  # type: ignore[attr-defined]
    measure.source = f"{context.supernet} {_code(name, evaluate)}"  # type: ignore[attr-defined]
    return accuracy_by(measure, context)


def metric_objective(metric: Metric, context: Context) -> Objective:
    """A metric of the user's own as an objective of its name and direction."""
    evaluator = context.trained_evaluator()
    if metric.name in OBJECTIVES:
        raise ConfigError(
            f"is called {metric.name}, as an objective of nassearch is",
            where="evaluate",
            fix="give it a name of its own: f.name = 'mean_iou'",
        )

    def measure(architecture: Architecture) -> Estimate:
        return evaluator.metric(architecture, metric)

    measure.direction = metric.direction  # type: ignore[attr-defined]
    measure.unit = metric.unit  # type: ignore[attr-defined]
    measure.source = f"{context.supernet} {_code(metric.name, metric.measure)}"  # type: ignore[attr-defined]
    return _objective(metric.name, measure, context)


class Latency:
    """Predicted milliseconds on a target; cheap, and exact in its minimum."""

    per_target = True
    unit = "ms"

    def __init__(self, context: Context, target: Target) -> None:
        self._predictor = target.predictor
        self.setting = target.setting
        self.source = f"{target.setting} {target.predictor.fingerprint}"
        self.of_genes = target.predictor.predict_genes

    def __call__(self, architecture: Architecture) -> Estimate:
        return self._predictor.estimate(architecture)

    def minimum(self) -> tuple[float, Architecture]:
        """The least milliseconds in the space, and an architecture that has them."""
        architecture, milliseconds = self._predictor.minimum()
        return milliseconds, architecture


class _Counted:
    """A cost that adds up over blocks; exact in its minimum."""

    def __init__(self, context: Context, of_spec: Callable[[BlockSpec], float]) -> None:
        self._total = AdditiveCost(context.space, of_spec)
        self.of_genes = self._total.of_genes

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self._total(architecture), Provenance("counted"))

    def minimum(self) -> tuple[float, Architecture]:
        """The least cost in the space, and an architecture that has it."""
        architecture, cost = self._total.minimum()
        return cost, architecture


class Macs(_Counted):
    """Multiply-accumulates for one image."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, lambda spec: float(block_cost(spec).macs))


class Params(_Counted):
    """Parameters of the extracted network."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, lambda spec: float(block_cost(spec).params))


class SizeBytes:
    """Bytes of the file that a network is deployed in: an ONNX graph in its policy's precisions, or
    in that of the settings searched for; exact in its minimum, within some per cent of the file.
    """

    def __init__(self, context: Context) -> None:
        self._total: AdditiveCost | PolicyCost
        if context.space.precisions:
            self._total = PolicyCost(context.space, file_bytes)
        else:
            self._total = AdditiveCost(context.space, partial(_bytes_in, context.precision))
        self.of_genes = self._total.of_genes

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self._total(architecture), Provenance("counted"))

    def minimum(self) -> tuple[float, Architecture]:
        """The least bytes in the space, and an architecture that has them."""
        architecture, size = self._total.minimum()
        return size, architecture


def _bytes_in(precision: str, spec: BlockSpec) -> float:
    return float(file_bytes(spec, precision))


class PeakActivationBytes:
    """The most activations held at once for one image.

    Of float32, in int8 a quarter of it; where a policy says precisions, each block's of its own
    (run patch by patch, of float32).
    """

    def __init__(self, context: Context) -> None:
        self._space = space = context.space
        self._of_genes = PeakActivations(space).of_genes
        if space.precisions and space.definition.patches is None:
            policies = PolicyCost(space, partial(_in_bytes_of, peak_elements))
            self._of_genes = policies.largest_of_genes

    def __call__(self, architecture: Architecture) -> Estimate:
        genes = np.array([self._space.encode(architecture)], dtype=np.uint8)
        return Estimate(float(self.of_genes(genes)[0]), Provenance("counted"))

    def of_genes(self, genes: Genes) -> Floats:
        """Bytes, (n,), of gene vectors, (n, genes)."""
        return self._of_genes(genes)


class PeakMemoryBytes(PeakActivationBytes):
    """Those activations and all weights."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._weights: AdditiveCost | PolicyCost
        if context.space.precisions:
            self._weights = PolicyCost(context.space, partial(_in_bytes_of, _num_params))
        else:
            self._weights = AdditiveCost(context.space, lambda s: float(block_cost(s).weight_bytes))

    def of_genes(self, genes: Genes) -> Floats:
        """Bytes, (n,), of gene vectors, (n, genes)."""
        return super().of_genes(genes) + self._weights.of_genes(genes)


def _in_bytes_of(count: Callable[[BlockSpec], int], spec: BlockSpec, precision: str) -> float:
    return float(count(spec) * (1 if precision == "int8" else FLOAT_BYTES))


def _num_params(spec: BlockSpec) -> int:
    return block_cost(spec).params


class Sensitivity:
    """The loss that the largest network is expected to have by an architecture's policy, in nats.

    Its loss in float, and what int8 adds in each block that the policy has in int8 (HAWQ): cheap,
    and a hint of which policies are worth an evaluation.
    """

    def __init__(self, context: Context) -> None:
        self._space = space = context.space
        if space.policies is None or INT8 not in space.precisions or context.sensitivity is None:
            raise ConfigError(
                "sensitivity is that of policies with int8, of a supernet with images",
                where="objectives",
                fix="search a setting of --precision mixed, and name images with --data",
            )
        known = context.sensitivity()
        self._policies, self._int8 = space.policies, space.precisions.index(INT8)
        self._loss = known.loss
        self._increases = np.array([block.loss_increase for block in known.blocks])
        self.source = known.supernet

    def __call__(self, architecture: Architecture) -> Estimate:
        genes = np.array([self._space.encode(architecture)], dtype=np.uint8)
        return Estimate(float(self.of_genes(genes)[0]), Provenance("curvature"))

    def of_genes(self, genes: Genes) -> Floats:
        """Nats, (n,), of gene vectors, (n, genes)."""
        quantized = genes[:, self._policies.columns] == self._int8
        return self._loss + (quantized & self._policies.present(genes)) @ self._increases


class ZeroCost:
    """DeepMAD's entropy, without data or weights; the paper bounds the effectiveness beside it."""

    direction = "max"

    def __init__(self, context: Context) -> None:
        self._score = StructuralScore(context.space)
        self.of_genes = self._score.entropy

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self._score.of(architecture, self.of_genes), Provenance("structure alone"))


class Effectiveness(ZeroCost):
    """DeepMAD's depth over width, for a budget (the paper's is 0.5): more is hard to train."""

    direction = "min"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.of_genes = self._score.effectiveness
