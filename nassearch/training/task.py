"""What a network is for where it tells no classes apart: a loss and a metric of the user's own."""

import math
import numbers
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nassearch.data.target_set import TargetBatch, Targets
from nassearch.errors import ConfigError, NassearchError, SearchError
from nassearch.networks.wiring import Outputs
from nassearch.provenance import Z_95, Estimate, Provenance

Loss = Callable[[Outputs, Targets], Tensor]
"""Of what a network gives (logits, float32 (n, classes), or a tensor by the name of each output)
and a batch's targets (labels, int64 (n,), shares of classes, or what a collate gives) a scalar."""
Network = Callable[[Tensor], Outputs]
Measure = Callable[[Network, Iterable[TargetBatch]], float | tuple[float, float]]
GIVEN_LOSS = "given in Python"
"""What a recipe says of a loss that no text names."""


@dataclass(frozen=True)
class Metric:
    """What a search maximises or minimises instead of accuracy, and `verify` measures again.

    Args:
        measure: Takes a network (a module in evaluation mode, or an exported file: images to
            outputs) and batches of (images, targets); returns a number, or that and its standard
            error. Batches are those of one split, in an order that never changes.
        direction: 'max' or 'min'.
        name: What it is called in files and tables, by default as the function.
        unit: Of the number.
    """

    measure: Measure
    direction: Literal["max", "min"]
    name: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            own = getattr(self.measure, "__name__", type(self.measure).__name__)
            object.__setattr__(self, "name", own.lower().strip("_"))
        where = f"metric {self.name}"
        if not callable(self.measure):
            raise ConfigError(
                f"its measure is a {type(self.measure).__name__}",
                where=where,
                fix="give a function of a network and batches",
            )
        if self.direction not in ("max", "min"):
            raise ConfigError(
                f"its direction is {self.direction!r}", where=where, fix="write 'max' or 'min'"
            )
        if re.fullmatch("[a-z][a-z0-9_]{0,40}", self.name) is None:
            raise ConfigError(
                "has no name for files and tables",
                where=where,
                fix="give it a name of small letters, digits and underscores: f.name = 'mean_iou'",
            )

    def __call__(
        self, network: Network, batches: Iterable[TargetBatch], *, split: str, num_images: int
    ) -> Estimate:
        """The number with its 95 % interval where its error is known.

        Raises SearchError where the function fails, or returns what is no number.
        """
        try:
            with torch.inference_mode():
                given = self.measure(network, batches)
        except NassearchError:
            raise
        except Exception as error:  # whatever a user's function raises
            raise SearchError(
                f"raised {type(error).__name__} ({' '.join(str(error).split())[:160]})",
                where=f"metric {self.name}",
                fix="mend the function; --resume goes on with what was evaluated",
            ) from error
        value, error_of_it = (
            given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        )
        for number in (value, error_of_it):
            if number is not None and not _is_number(number):
                raise SearchError(
                    f"returned a {type(number).__name__}, not a number",
                    where=f"metric {self.name}",
                    fix="return a float, or a float and its standard error",
                )
        source = Provenance("evaluated", split=split, num_images=num_images)
        if error_of_it is None or not math.isfinite(error_of_it):
            return Estimate(float(value), source)
        half = Z_95 * abs(float(error_of_it))
        return Estimate(float(value), source, float(value) - half, float(value) + half)


def _is_number(value: object) -> bool:
    is_scalar = isinstance(value, Tensor) and value.numel() == 1
    return is_scalar or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def as_metric(given: Any, *, where: object = "evaluate") -> Metric:
    """The metric of a function of (network, batches), which says its `direction`.

    What else it may say is read from attributes too: `name`, by default the function's, and `unit`.
    Raises ConfigError where it says no direction.
    """
    if isinstance(given, Metric):
        return given
    direction = getattr(given, "direction", None)
    if not callable(given) or direction is None:
        raise ConfigError(
            "does not say whether more or less is better",
            where=where,
            fix="say so on the function: mean_iou.direction = 'max', or 'min'",
        )
    name, unit = getattr(given, "name", ""), getattr(given, "unit", "")
    return Metric(given, direction, name=name, unit=unit)


def checked_loss(
    loss: Loss, outputs: Outputs, targets: Targets, *, needs_gradient: bool = True
) -> Tensor:
    """The loss; ConfigError where the user's function fails, or returns what is no scalar."""
    name = f"loss {getattr(loss, '__name__', type(loss).__name__)}"
    try:
        value = loss(outputs, targets)
    except Exception as error:  # whatever a user's function raises
        raise ConfigError(
            f"raised {type(error).__name__} ({' '.join(str(error).split())[:160]})",
            where=name,
            fix="it takes what the network gives and a batch's targets",
        ) from error
    if not isinstance(value, Tensor) or value.dim() != 0 or not value.is_floating_point():
        found = (
            f"a tensor of {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else f"a {type(value).__name__}"
        )
        raise ConfigError(
            f"returned {found}, not a scalar", where=name, fix="return loss.mean(), a tensor"
        )
    if needs_gradient and not value.requires_grad:
        raise ConfigError(
            "has no gradient to the network",
            where=name,
            fix="compute it of the outputs with torch, without .detach() or .item()",
        )
    return value


def share_of(targets: Targets, seen: slice, count: int) -> Targets:
    """The targets of the images `seen` of a batch of `count`; ConfigError where they have no parts.

    Tensors and lists have one for each image.
    """
    if seen == slice(0, None, 1):
        return targets
    if isinstance(targets, Tensor | list) and len(targets) == count:
        return targets[seen]
    raise ConfigError(
        "shows each network a part of a batch, and targets of this form have no parts",
        where="training.sandwich_rule",
        fix="collate targets to a tensor or a list with one item for each image, or leave it out",
    )
