"""Two convolutions, max pooling between them where the block is strided, else a residual."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.ops.layer import ConvNorm, DropPath, StaticOp, activation, expanded_channels
from nassearch.space import BlockSpec


class PooledBasic(StaticOp):
    """kxk to `expand_ratio` x out_channels, max pooling over the stride, kxk to out_channels.

    Every pixel is convolved before images shrink, and what shrinks them has no shortcut, as in
    networks that learn CIFAR-10 fast (Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
    2024); a block that keeps shape adds its input (He et al., CVPR 2016). Odd sizes round up.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": False,
        "activation": False,
    }

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act, kernel_size = spec.get("activation"), spec.get("kernel_size")
        mid = expanded_channels(spec.out_channels, spec)
        self.reduce = ConvNorm(spec.in_channels, mid, kernel_size=kernel_size, act=act)
        strided = spec.stride > 1
        self.pool = nn.MaxPool2d(spec.stride, ceil_mode=True) if strided else nn.Identity()
        self.expand = ConvNorm(mid, spec.out_channels, kernel_size=kernel_size)
        self.drop_path = DropPath()
        self.act = activation(act)
        self.residual = not strided and spec.in_channels == spec.out_channels

    def residual_norm(self) -> nn.BatchNorm2d | None:
        return self.expand.norm if self.residual else None

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.expand(self.pool(self.reduce(images)))
        return self.act(images + self.drop_path(out) if self.residual else out)
