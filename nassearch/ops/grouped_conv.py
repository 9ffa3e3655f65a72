"""Group convolution of a constant group size, then pointwise mixing (E2GC, Jha et al., 2020)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from nassearch.ops.layer import ConvNorm, StaticOp, check_group_size
from nassearch.space import BlockSpec


class GroupedConv(StaticOp):
    """kxk convolution in groups of `group_size` channels and 1x1 convolution, each with its norm.

    The group size stays while widths vary, so a narrower block uses fewer groups of the same
    weights.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "group_size": True,
        "activation": False,
    }
    is_local: ClassVar[bool] = True

    @staticmethod
    def check(spec: BlockSpec) -> None:
        check_group_size(spec, spec.in_channels)

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act = spec.get("activation")
        self.grouped = ConvNorm(
            spec.in_channels,
            spec.in_channels,
            kernel_size=spec.get("kernel_size"),
            stride=spec.stride,
            groups=spec.in_channels // spec.get("group_size"),
            act=act,
        )
        self.pointwise = ConvNorm(spec.in_channels, spec.out_channels, act=act)

    def forward(self, images: Tensor) -> Tensor:
        return self.pointwise(self.grouped(images))
