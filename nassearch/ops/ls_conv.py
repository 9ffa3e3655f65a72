"""LS convolution: see large, focus small (Wang et al., "LSNet", CVPR 2025)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nassearch.errors import SpaceError
from nassearch.ops.layer import ConvNorm, DropPath, StaticOp, expanded_channels
from nassearch.space import BlockSpec

NEAR = 3  # the kernel that aggregates (section 3.2)
SHARED = 8  # channels that share one aggregation kernel


class LSConv(nn.Module):
    """A large depthwise kernel perceives; at each pixel it gives 3x3 kernels that aggregate.

    1x1 to half of the channels, depthwise kxk, 1x1, then 1x1 to nine weights for each pixel and
    each group of 8 channels. The paper normalises the weights over groups; batch norm stands in
    its place, because it folds into the convolution.
    """

    def __init__(self, channels: int, kernel_size: int, *, act: str | None) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = ConvNorm(channels, half, act=act)
        self.depthwise = ConvNorm(half, half, kernel_size=kernel_size, groups=half)
        self.mix = ConvNorm(half, half, act=act)
        self.weigh = ConvNorm(half, NEAR**2 * (channels // SHARED))

    def forward(self, images: Tensor) -> Tensor:
        weights = self.weigh(self.mix(self.depthwise(self.reduce(images))))
        return aggregate(images, weights)


def aggregate(images: Tensor, weights: Tensor) -> Tensor:
    """Convolve each pixel with a kernel of its own.

    images (n, c, h, w); weights (n, 9 c / 8, h, w), nine taps for each group of 8 channels, groups
    first, so that the leading channels use the leading weights. Written as one einsum, whose
    arithmetic is counted; the shifted copies are slices.
    """
    padded = F.pad(images, (NEAR // 2,) * 4)
    shifts = [slice(first, first - NEAR + 1 or None) for first in range(NEAR)]
    taps = torch.stack([padded[:, :, rows, columns] for rows in shifts for columns in shifts], 2)
    kernels = weights.unflatten(1, (-1, NEAR**2))
    out = torch.einsum("ngcthw,ngthw->ngchw", taps.unflatten(1, (-1, SHARED)), kernels)
    return out.flatten(1, 2)


class LSBlock(StaticOp):
    """LS convolution, norm, the input added; then 1x1 expansion and projection, added as well.

    Where the block changes shape, a 3x3 convolution and a norm stand before it. `kernel_size` is
    that of the perception.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "activation": False,
    }

    @staticmethod
    def check(spec: BlockSpec) -> None:
        if spec.out_channels % SHARED:
            raise SpaceError(
                f"{SHARED} channels share a kernel, which {spec.out_channels} do not fit",
                where="width",
                fix=f"write a multiple of {SHARED}",
            )

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        channels, act = spec.out_channels, spec.get("activation")
        changes = spec.stride != 1 or spec.in_channels != channels
        self.downsample = (
            ConvNorm(spec.in_channels, channels, kernel_size=3, stride=spec.stride)
            if changes
            else nn.Identity()
        )
        self.aggregation = LSConv(channels, spec.get("kernel_size"), act=act)
        self.norm = nn.BatchNorm2d(channels)
        mid = expanded_channels(channels, spec)
        self.expand = ConvNorm(channels, mid, act=act)
        self.project = ConvNorm(mid, channels)
        self.drop_path = DropPath()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.downsample(images)
        out = out + self.drop_path(self.norm(self.aggregation(out)))
        return out + self.drop_path(self.project(self.expand(out)))
