"""Objectives that are measured on images: accuracy, loss, and whatever a user measures."""

from collections.abc import Callable

from torch import nn

from nassearch.errors import ConfigError
from nassearch.objectives import OBJECTIVES
from nassearch.objectives.objective import Context, ObjectiveFunction, as_objective, code_digest
from nassearch.provenance import Estimate, Provenance
from nassearch.search.problem import Objective
from nassearch.space import Architecture
from nassearch.training.evaluation import Z_95
from nassearch.training.evaluation import Accuracy as MeasuredAccuracy
from nassearch.training.task import Metric


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
    return as_objective("accuracy", function, context)


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
    measure.source = f"{context.supernet} {code_digest(name, evaluate)}"  # type: ignore[attr-defined]
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
    measure.source = f"{context.supernet} {code_digest(metric.name, metric.measure)}"  # type: ignore[attr-defined]
    return as_objective(metric.name, measure, context)
