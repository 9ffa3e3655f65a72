"""Residual basic block: two convolutions and a shortcut (He et al., CVPR 2016)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.ops.layer import (
    ConvNorm,
    DropPath,
    Shortcut,
    StaticOp,
    activation,
    attention,
    expanded_channels,
)
from nassearch.space import BlockSpec


class BasicBlock(StaticOp):
    """kxk to `expand_ratio` x out_channels, kxk back, shortcut, activation."""

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": False,
        "activation": False,
        "attention": False,
        "shortcut": False,
    }

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act, kernel_size = spec.get("activation"), spec.get("kernel_size")
        mid = expanded_channels(spec.out_channels, spec)
        self.reduce = ConvNorm(
            spec.in_channels, mid, kernel_size=kernel_size, stride=spec.stride, act=act
        )
        self.expand = ConvNorm(mid, spec.out_channels, kernel_size=kernel_size)
        self.attention = attention(spec, spec.out_channels)
        self.shortcut = Shortcut(spec)
        self.drop_path = DropPath()
        self.act = activation(act)

    def residual_norm(self) -> nn.BatchNorm2d | None:
        return self.expand.norm

    def forward(self, images: Tensor) -> Tensor:
        out = self.attention(self.expand(self.reduce(images)))
        return self.act(self.shortcut(images) + self.drop_path(out))
