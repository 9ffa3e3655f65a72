"""Fused inverted residual: one dense convolution expands and mixes (EfficientNetV2)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.ops.layer import ConvNorm, DropPath, StaticOp, attention
from nassearch.space import BlockSpec


class FusedMBConv(StaticOp):
    """kxk convolution to the expanded channels, attention, 1x1 projection (Tan and Le, ICML 2021).

    At ratio 1 there is only the kxk convolution. The input is added where the block keeps shape.
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
        projects = spec.get("expand_ratio") != 1
        mid = spec.mid_channels if projects else spec.out_channels
        self.expand = ConvNorm(
            spec.in_channels,
            mid,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
            act=act,
        )
        self.attention = attention(spec, mid)
        self.project = ConvNorm(mid, spec.out_channels) if projects else nn.Identity()
        self.drop_path = DropPath()
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def residual_norm(self) -> nn.BatchNorm2d | None:
        if not self.residual or isinstance(self.project, nn.Identity):
            return None
        norm: nn.BatchNorm2d = self.project.norm
        return norm

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.project(self.attention(self.expand(images)))
        return images + self.drop_path(out) if self.residual else out
