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
        gradient, state = weight.grad, self.state[weight]
        is_matrix = weight.dim() == 4
        if not is_matrix:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(group["momentum"]).add_(gradient)
        direction = gradient.add(state["momentum"], alpha=group["momentum"])
        if is_matrix:
            rows, columns = len(weight), weight[0].numel()
            direction = orthogonal(direction.flatten(1)).view_as(weight)
            direction *= max(1.0, rows / columns) ** 0.5
            weight.mul_(rows**0.5 / weight.norm().clamp_min(1e-7))
        weight.add_(direction, alpha=-group["lr"] * (1.0 if is_matrix else _OTHERS))


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
