"""Large-kernel attention block (Guo et al., "Visual Attention Network", 2022)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.ops.layer import (
    ConvNorm,
    DropPath,
    StaticOp,
    activation,
    expanded_channels,
    layer_scale,
)
from nassearch.space import BlockSpec

DILATION = 3


class LargeKernelAttention(nn.Module):
    """Depthwise 5x5, depthwise kxk of dilation 3, 1x1: what they give weighs the input (eq. 2-3).

    With k = 7 it sees 21 pixels, as in the paper.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        near = 2 * DILATION - 1
        self.near = nn.Conv2d(channels, channels, near, padding=near // 2, groups=channels)
        self.far = nn.Conv2d(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2 * DILATION,
            dilation=DILATION,
            groups=channels,
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        weights: Tensor = self.mix(self.far(self.near(images)))
        return images * weights


class LKA(StaticOp):
    """Norm, 1x1, activation, large-kernel attention, 1x1; then norm and a convolutional MLP.

    Both halves add their input. Where the block changes shape, a 3x3 convolution and a norm stand
    before it. `kernel_size` is that of the dilated convolution.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "activation": False,
    }

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        channels, act = spec.out_channels, spec.get("activation")
        changes = spec.stride != 1 or spec.in_channels != channels
        self.downsample = (
            ConvNorm(spec.in_channels, channels, kernel_size=3, stride=spec.stride)
            if changes
            else nn.Identity()
        )
        self.attention = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1),
            activation(act),
            LargeKernelAttention(channels, spec.get("kernel_size")),
            nn.Conv2d(channels, channels, 1),
        )
        self.attention_scale = layer_scale(channels)
        mid = expanded_channels(channels, spec)
        self.mlp = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, mid, 1),
            nn.Conv2d(mid, mid, 3, padding=1, groups=mid),
            activation(act),
            nn.Conv2d(mid, channels, 1),
        )
        self.mlp_scale = layer_scale(channels)
        self.drop_path = DropPath()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.downsample(images)
        out = out + self.drop_path(self.attention_scale * self.attention(out))
        return out + self.drop_path(self.mlp_scale * self.mlp(out))
