"""Plain convolution with batch norm: stems, and stages of a plain network."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from nassearch.ops.layer import ConvNorm, StaticOp, odd_kernel
from nassearch.space import BlockSpec


class Conv(StaticOp):
    """Convolution, batch norm, activation."""

    dimensions: ClassVar[Mapping[str, bool]] = {"kernel_size": True, "activation": False}
    is_local: ClassVar[bool] = True

    @staticmethod
    def check(spec: BlockSpec) -> None:
        odd_kernel(spec)

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.body = ConvNorm(
            spec.in_channels,
            spec.out_channels,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
            act=spec.get("activation"),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)
