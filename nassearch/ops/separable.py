"""Depthwise-separable convolution: depthwise, then pointwise (MobileNetV1, Howard et al., 2017)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from nassearch.ops.layer import ConvNorm, StaticOp
from nassearch.space import BlockSpec


class Separable(StaticOp):
    """kxk depthwise convolution and 1x1 convolution, each with batch norm and activation."""

    dimensions: ClassVar[Mapping[str, bool]] = {"kernel_size": True, "activation": False}
    is_local: ClassVar[bool] = True

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act = spec.get("activation")
        self.depthwise = ConvNorm(
            spec.in_channels,
            spec.in_channels,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
            groups=spec.in_channels,
            act=act,
        )
        self.pointwise = ConvNorm(spec.in_channels, spec.out_channels, act=act)

    def forward(self, images: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(images))
