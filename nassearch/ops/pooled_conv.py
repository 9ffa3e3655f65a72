"""Convolution and max pooling: the stem of ResNet."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.errors import SpaceError
from nassearch.ops.layer import ConvNorm, StaticOp, odd_kernel
from nassearch.space import BlockSpec


class PooledConv(StaticOp):
    """Convolution with half of the stride, batch norm, activation, 3x3 max pooling of stride 2."""

    dimensions: ClassVar[Mapping[str, bool]] = {"kernel_size": True, "activation": False}

    @staticmethod
    def check(spec: BlockSpec) -> None:
        odd_kernel(spec)
        if spec.stride % 2:
            raise SpaceError(
                f"{spec.stride} is odd, and the pooling halves",
                where="stride",
                fix="write 2 or 4, or use the op conv",
            )

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.body = ConvNorm(
            spec.in_channels,
            spec.out_channels,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride // 2,
            act=spec.get("activation"),
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.pool(self.body(images))
        return out
