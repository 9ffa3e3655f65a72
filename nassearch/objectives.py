"""What a search can trade: quantities of an architecture, cheap ones vectorised over genes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nassearch import config
from nassearch.errors import ConfigError
from nassearch.latency.predictor import LatencyPredictor
from nassearch.networks import block_cost
from nassearch.networks.activation_memory import PeakActivations
from nassearch.networks.activation_memory import peak_activation_bytes as peak_of
from nassearch.networks.activation_memory import peak_memory_bytes as memory_of
from nassearch.networks.zero_cost import StructuralScore
from nassearch.search.candidate import Direction, Objective, ObjectiveValue
from nassearch.space import Architecture, BlockSpec, SearchSpace, lower
from nassearch.space.additive import AdditiveCost, Floats
from nassearch.space.search_space import Genes
from nassearch.training.evaluation import Evaluator

OBJECTIVES = {
    "accuracy": "nassearch.objectives:accuracy",
    "latency": "nassearch.objectives:latency",
    "macs": "nassearch.objectives:macs",
    "params": "nassearch.objectives:params",
    "peak_activation_bytes": "nassearch.objectives:peak_activation_bytes",
    "peak_memory_bytes": "nassearch.objectives:peak_memory_bytes",
    "zero_cost": "nassearch.objectives:zero_cost",
    "effectiveness": "nassearch.objectives:effectiveness",
}


@dataclass(frozen=True)
class Context:
    """What objectives are computed from."""

    space: SearchSpace
    predictors: tuple[LatencyPredictor, ...] = ()
    evaluator: Evaluator | None = None
    supernet: str = ""


def build(name: str, context: Context) -> list[Objective]:
    """The objectives called `name`: one for each device in the case of latency.

    'package.module:Attr' names a user's function Architecture -> float, to be minimised unless it
    has the attribute `direction = "max"`.
    """
    if name in OBJECTIVES:
        builder: Callable[[Context], list[Objective]] = config.resolve(
            OBJECTIVES, name, kind="objective"
        )
        return builder(context)
    function: Callable[[Architecture], float] = config.resolve(OBJECTIVES, name, kind="objective")
    return [_custom(name, function)]


def latency_name(context: Context, predictor: LatencyPredictor) -> str:
    """'latency', or 'latency:<device>' where several devices are asked about."""
    single = len(context.predictors) == 1
    return "latency" if single else f"latency:{predictor.setting.device}"


def accuracy(context: Context) -> list[Objective]:
    """Top-1 on validation images with recalibrated batch norm; expensive, cut short if hopeless."""
    evaluator = context.evaluator
    if evaluator is None:
        raise ConfigError(
            "accuracy needs a trained supernet", fix="run 'nassearch train-supernet' first"
        )

    def evaluate_early_stop(architecture: Architecture, at_least: float) -> ObjectiveValue:
        found = evaluator.accuracy(architecture, at_least=at_least)
        provenance = f"{found.split} ({found.num_images} images)"
        stopped_early = found.num_images < evaluator.num_images
        return ObjectiveValue(found.value, provenance, *found.interval, stopped_early=stopped_early)

    def evaluate(architecture: Architecture) -> ObjectiveValue:
        return evaluate_early_stop(architecture, 0.0)

    return [
        Objective(
            "accuracy",
            "max",
            "",
            evaluate,
            source=context.supernet,
            evaluate_early_stop=evaluate_early_stop,
        )
    ]


def latency(context: Context) -> list[Objective]:
    """Predicted milliseconds on each device; cheap, and exact in its minimum."""
    return [
        _latency(latency_name(context, predictor), predictor) for predictor in context.predictors
    ]


def macs(context: Context) -> list[Objective]:
    """Multiply-accumulates for one image."""
    return [_counted("macs", context, lambda spec: float(block_cost(spec).macs))]


def params(context: Context) -> list[Objective]:
    """Parameters of the extracted network."""
    return [_counted("params", context, lambda spec: float(block_cost(spec).params))]


def peak_activation_bytes(context: Context) -> list[Objective]:
    """The most float32 activations held at once for one image; in int8 a quarter of it."""
    peak = PeakActivations(context.space)
    return [_peak("peak_activation_bytes", context, peak.of_genes, peak_of)]


def peak_memory_bytes(context: Context) -> list[Objective]:
    """The same and all weights."""
    peak = PeakActivations(context.space)
    weights = AdditiveCost(context.space, lambda spec: float(block_cost(spec).weight_bytes))

    def of_genes(genes: Genes) -> Floats:
        return peak.of_genes(genes) + weights.of_genes(genes)

    return [_peak("peak_memory_bytes", context, of_genes, memory_of)]


def zero_cost(context: Context) -> list[Objective]:
    """DeepMAD's entropy, without data or weights; the paper bounds the effectiveness beside it."""
    score = StructuralScore(context.space)
    return [_structural("zero_cost", "max", score, score.entropy)]


def effectiveness(context: Context) -> list[Objective]:
    """DeepMAD's depth over width, for a budget (the paper's is 0.5): more is hard to train."""
    score = StructuralScore(context.space)
    return [_structural("effectiveness", "min", score, score.effectiveness)]


def _latency(name: str, predictor: LatencyPredictor) -> Objective:
    provenance = f"{predictor.provenance} {predictor.setting}"

    def evaluate(architecture: Architecture) -> ObjectiveValue:
        number = float(predictor.predict([architecture])[0])
        if predictor.calibration.ratio is None:
            return ObjectiveValue(number, provenance)
        low, high = predictor.interval([architecture])
        return ObjectiveValue(number, provenance, float(low[0]), float(high[0]))

    def minimum() -> tuple[float, Architecture]:
        architecture, number = predictor.minimum()
        return number, architecture

    return Objective(
        name,
        "min",
        "ms",
        evaluate,
        predictor.predict_genes,
        minimum,
        source=f"{predictor.setting} {predictor.fingerprint}",
    )


def _counted(name: str, context: Context, of_spec: Callable[[BlockSpec], float]) -> Objective:
    total = AdditiveCost(context.space, of_spec)

    def minimum() -> tuple[float, Architecture]:
        architecture, number = total.minimum()
        return number, architecture

    def evaluate(architecture: Architecture) -> ObjectiveValue:
        return ObjectiveValue(total(architecture), "counted")

    return Objective(name, "min", "", evaluate, total.of_genes, minimum)


def _peak(
    name: str,
    context: Context,
    of_genes: Callable[[Genes], Floats],
    of_specs: Callable[[Sequence[BlockSpec]], int],
) -> Objective:
    def evaluate(architecture: Architecture) -> ObjectiveValue:
        return ObjectiveValue(float(of_specs(lower(context.space, architecture))), "counted")

    return Objective(name, "min", "", evaluate, of_genes)


def _structural(
    name: str, direction: Direction, score: StructuralScore, of_genes: Callable[[Genes], Floats]
) -> Objective:
    def evaluate(architecture: Architecture) -> ObjectiveValue:
        return ObjectiveValue(score.of(architecture, of_genes), "structure alone")

    return Objective(name, direction, "", evaluate, of_genes)


def _custom(name: str, function: Callable[[Architecture], float]) -> Objective:
    direction: Any = getattr(function, "direction", "min")
    if direction not in ("min", "max"):
        raise ConfigError(f"direction is {direction!r}", where=name, fix="'min' or 'max'")

    def evaluate(architecture: Architecture) -> ObjectiveValue:
        return ObjectiveValue(float(function(architecture)), name)

    return Objective(name, direction, getattr(function, "unit", ""), evaluate)
