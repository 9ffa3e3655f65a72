"""Residual bottleneck block: reduce, convolve, expand, and a shortcut (He et al., CVPR 2016)."""

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
    check_group_size,
    expanded_channels,
)
from nassearch.space import BlockSpec


class Bottleneck(StaticOp):
    """1x1 to `expand_ratio` x out_channels, kxk with the stride, 1x1 back, shortcut, activation.

    The stride stands in the kxk convolution, as in torchvision. With a `group_size` the kxk
    convolution is grouped (ResNeXt).
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "group_size": False,
        "activation": False,
        "attention": False,
        "shortcut": False,
    }

    @staticmethod
    def check(spec: BlockSpec) -> None:
        check_group_size(spec, expanded_channels(spec.out_channels, spec))

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act = spec.get("activation")
        mid = expanded_channels(spec.out_channels, spec)
        self.reduce = ConvNorm(spec.in_channels, mid, act=act)
        self.mix = ConvNorm(
            mid,
            mid,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
            groups=mid // spec.get("group_size", mid),
            act=act,
        )
        self.expand = ConvNorm(mid, spec.out_channels)
        self.attention = attention(spec, spec.out_channels)
        self.shortcut = Shortcut(spec)
        self.drop_path = DropPath()
        self.act = activation(act)

    def residual_norm(self) -> nn.BatchNorm2d | None:
        return self.expand.norm

    def forward(self, images: Tensor) -> Tensor:
        out = self.attention(self.expand(self.mix(self.reduce(images))))
        return self.act(self.shortcut(images) + self.drop_path(out))
