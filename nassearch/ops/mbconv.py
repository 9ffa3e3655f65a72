"""Inverted residual: expand, depthwise convolution, attention, project (MobileNetV2 and V3)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.ops.layer import ConvNorm, DropPath, StaticOp, attention
from nassearch.space import BlockSpec


class MBConv(StaticOp):
    """1x1 expansion (none at ratio 1), depthwise convolution, attention, 1x1 projection.

    The input is added where the block keeps shape.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "activation": False,
        "attention": False,
    }
    is_local: ClassVar[bool] = True

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act = spec.get("activation")
        expands = spec.get("expand_ratio") != 1
        # nothing rounds what is not expanded: 12 channels stay 12
        mid = spec.mid_channels if expands else spec.in_channels
        self.expand = ConvNorm(spec.in_channels, mid, act=act) if expands else nn.Identity()
        self.depthwise = ConvNorm(
            mid,
            mid,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
            groups=mid,
            act=act,
        )
        self.attention = attention(spec, mid)
        self.project = ConvNorm(mid, spec.out_channels)
        self.drop_path = DropPath()
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def residual_norm(self) -> nn.BatchNorm2d | None:
        return self.project.norm if self.residual else None

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.project(self.attention(self.depthwise(self.expand(images))))
        return images + self.drop_path(out) if self.residual else out
