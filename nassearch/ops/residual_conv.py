"""Convolution that adds its input where it keeps shape: the deep stem of once-for-all's ResNet."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from nassearch.ops.layer import ConvNorm, DropPath, StaticOp
from nassearch.space import BlockSpec


class ResidualConv(StaticOp):
    """Convolution, batch norm, activation; then the input is added where the block keeps shape."""

    dimensions: ClassVar[Mapping[str, bool]] = {"kernel_size": True, "activation": False}
    is_local: ClassVar[bool] = True

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.body = ConvNorm(
            spec.in_channels,
            spec.out_channels,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
            act=spec.get("activation"),
        )
        self.drop_path = DropPath()
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.body(images)
        return images + self.drop_path(out) if self.residual else out
