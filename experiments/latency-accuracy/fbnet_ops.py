"""The blocks of FBNet's space (Wu et al., CVPR 2019), as HW-NAS-Bench measured them."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.ops.layer import ConvNorm, StaticOp
from nassearch.space import BlockSpec


class FBNetBlock(StaticOp):
    """1x1 expansion (at ratio 1 as well), depthwise convolution, 1x1 projection."""

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "activation": False,
    }
    groups: ClassVar[int] = 1

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        act, mid = spec.get("activation"), spec.in_channels * spec.get("expand_ratio")
        self.expand = ConvNorm(spec.in_channels, mid, groups=self.groups, act=act)
        self.depthwise = ConvNorm(
            mid, mid, kernel_size=spec.get("kernel_size"), stride=spec.stride, groups=mid, act=act
        )
        self.project = ConvNorm(mid, spec.out_channels, groups=self.groups)
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def forward(self, images: Tensor) -> Tensor:
        expanded = self.expand(images)
        if self.groups > 1:
            split = expanded.unflatten(1, (self.groups, -1))
            expanded = split.permute(0, 2, 1, 3, 4).flatten(1, 2)
        out: Tensor = self.project(self.depthwise(expanded))
        return images + out if self.residual else out


class GroupedFBNetBlock(FBNetBlock):
    """The same with both 1x1 convolutions in two groups and channels shuffled after the first."""

    groups: ClassVar[int] = 2


class FBNetSkip(StaticOp):
    """Nothing; a strided 1x1 convolution where the shape changes."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        same = spec.stride == 1 and spec.in_channels == spec.out_channels
        self.project = (
            nn.Identity()
            if same
            else ConvNorm(spec.in_channels, spec.out_channels, stride=spec.stride, act="relu")
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.project(images)
        return out
