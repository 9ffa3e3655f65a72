"""The layers that ops are made of, and what an op must be."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nassearch.space import BlockSpec
from nassearch.space.architecture import make_divisible

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class StaticOp(nn.Module):
    """A block as a plain module, built from a BlockSpec: (n, i, r, r) -> (n, o, r', r').

    An op is a subclass with `dimensions`, an `__init__` that builds its layers and a `forward`.
    The elastic form comes for free as long as a smaller block uses the leading channels of every
    weight and the centre of every kernel of a larger one.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {}
    """The dimensions the op takes; True where a space must give them."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()

    @staticmethod
    def check(spec: BlockSpec) -> None:
        """Raise SpaceError where the op cannot be built from `spec`."""

    def residual_norm(self) -> nn.BatchNorm2d | None:
        """The last norm before a residual is added, for zero initialisation; None without one."""
        return None

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError


def activation(name: str | None) -> nn.Module:
    """The activation called `name`; identity for None."""
    if name is None:
        return nn.Identity()
    kind = ACTIVATIONS[name]
    return kind() if kind is nn.GELU else kind(inplace=True)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: str | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = activation(act)

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(images)))


class SqueezeExcite(nn.Module):
    """Channel attention as in MobileNetV3 (Howard et al., 2019): reduction 4, hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = make_divisible(channels // 4)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(images, 1)  # a mean would leave ONNX Runtime's blocked layout
        return images * self.gate(self.expand(self.act(self.reduce(pooled))))


class EfficientChannelAttention(nn.Module):
    """ECA (Wang et al., CVPR 2020): a 1-D convolution of 5 over the pooled channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        pooled = images.mean((2, 3)).unsqueeze(1)
        gate = torch.sigmoid(self.conv(pooled))
        return images * gate.squeeze(1).unsqueeze(-1).unsqueeze(-1)


def attention(name: str | None, channels: int) -> nn.Module:
    """The channel attention called `name`; identity for None."""
    if name is None:
        return nn.Identity()
    return SqueezeExcite(channels) if name == "se" else EfficientChannelAttention()
