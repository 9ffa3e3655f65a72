"""The weights of a graph that is simulated: trained in float, computed with as it rounds them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = {"uint8": (0, 255), "int8": (-128, 127)}


class Weight(nn.Module):
    """A tensor of a graph that can be trained: `value`, in float and without channels of padding.

    `real` is what the graph computes with, padded and rounded; `whole` the integers of that.
    """

    def __init__(self, name: str, value: Tensor, shape: tuple[int, ...], grid: "Grid | None"):
        super().__init__()
        self.name = name
        """In the float graph."""
        self.value = nn.Parameter(value.clone())
        self.grid = grid
        pairs = reversed(list(zip(value.shape, shape, strict=True)))
        self._margins = [margin for size, padded in pairs for margin in (0, padded - size)]

    def padded(self) -> Tensor:
        return F.pad(self.value, self._margins) if any(self._margins) else self.value

    def real(self) -> Tensor:
        return self.padded() if self.grid is None else self.grid.real(self.padded())

    def whole(self) -> Tensor:
        assert self.grid is not None
        return self.grid.whole(self.padded())

    @torch.no_grad()
    def refresh_scale(self) -> None:
        """Take the scale that the quantizer gives the weights as they are now."""
        if self.grid is not None:
            self.grid.fit(self.padded())


class Grid(nn.Module):
    """Numbers that are `scale` times a whole one; a scale (n,) is for the indices of `axis`."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, *, kind: str, axis: int) -> None:
        super().__init__()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("zero_point", zero_point.to(scale.dtype), persistent=False)
        self._axis = axis
        self._levels = LEVELS[kind]

    def whole(self, values: Tensor) -> Tensor:
        low, high = self._levels
        zero_point = along(self.zero_point, self._axis, values.dim())
        steps = straight_through(values / along(self.scale, self._axis, values.dim()))
        return torch.clamp(steps, low - zero_point, high - zero_point)

    def real(self, values: Tensor) -> Tensor:
        return self.whole(values) * along(self.scale, self._axis, values.dim())

    def fit(self, values: Tensor) -> None:
        """Span `values` as ONNX Runtime's quantizer does: signed integers symmetrically."""
        is_one = self.scale.dim() == 0
        values = values.flatten() if is_one else values.movedim(self._axis, 0).flatten(1)
        least, most = values.amin(-1).clamp(max=0.0), values.amax(-1).clamp(min=0.0)
        low, high = self._levels
        if low < 0:
            scale, zero_point = torch.maximum(-least, most) / high, torch.zeros_like(least)
        else:
            scale = (most - least) / (high - low)
            zero_point = torch.where(scale > 0, low - least / scale, 0.0).round()
        is_flat = scale < torch.finfo(scale.dtype).tiny
        self.scale.copy_(torch.where(is_flat, 1.0, scale))
        self.zero_point.copy_(torch.where(is_flat, 0.0, zero_point))


def along(values: Tensor, axis: int, num_dims: int) -> Tensor:
    """One number, or (n,) as a tensor of so many axes that runs over `axis`."""
    if values.dim() == 0:
        return values
    return values.reshape([-1 if place == axis else 1 for place in range(num_dims)])


def straight_through(values: Tensor) -> Tensor:
    """Rounded half to even, with the gradient of the identity."""
    return values + (values.round() - values).detach() if values.requires_grad else values.round()
