"""Muon: convolutions move by an orthogonal matrix in every step, everything else by SGD."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_ITERATIONS = 4
_OTHERS = 4.0
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., "Muon", 2024) for weights of four dimensions, Nesterov SGD for others.

    A convolution's weight, as a matrix of a row for each filter, is kept at the norm √rows, and a
    step changes it by lr times the orthogonal matrix nearest to its gradient's momentum: by the
    share lr of itself, however small its gradient. The others learn at four times that rate, and
    `weight_decay` concerns them alone.

    Of a weight that networks share, only the part moves that the step's networks used. Elsewhere
    the gradient is zero, and an orthogonal matrix would make as large a step of what is left of its
    momentum.
    """

    def __init__(self, groups: Any, *, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        gradient, state, decay = weight.grad, self.state[weight], group["momentum"]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"]
        if weight.dim() != 4:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
            momentum.mul_(decay).add_(gradient)
            direction = gradient.add(momentum, alpha=decay)
            weight.add_(direction, alpha=-_OTHERS * group["lr"])
            return
        weight.mul_(len(weight) ** 0.5 / weight.norm().clamp_min(1e-7))
        part = used(gradient)
        gradient, momentum, moved = gradient[part], momentum[part], weight[part]
        momentum.mul_(decay).add_(gradient)
        direction = orthogonal(gradient.add(momentum, alpha=decay).flatten(1))
        direction *= max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
        moved.add_(direction.view_as(moved), alpha=-group["lr"])


def used(gradient: Tensor) -> tuple[slice, ...]:
    """The smallest box of a weight outside which its gradient is zero; all of it where all is."""
    axes, box = range(gradient.dim()), []
    inside = gradient
    for axis in axes:
        sizes = inside.abs().sum([other for other in axes if other != axis])
        at = sizes.nonzero()
        if not len(at):
            return tuple(slice(None) for _ in axes)
        box.append(slice(int(at[0]), int(at[-1]) + 1))
        inside = inside.narrow(axis, box[-1].start, box[-1].stop - box[-1].start)
    return tuple(box)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly U V^T of a matrix U S V^T, by Newton and Schulz's iteration in bfloat16."""
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix).bfloat16()
    found = found / (found.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return (found.T if tall else found).to(matrix.dtype)
