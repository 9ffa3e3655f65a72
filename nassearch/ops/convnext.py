"""ConvNeXt block (Liu et al., "A ConvNet for the 2020s", CVPR 2022)."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nassearch.ops.layer import (
    ChannelNorm,
    DropPath,
    Patchify,
    StaticOp,
    activation,
    expanded_channels,
    layer_scale,
)
from nassearch.space import BlockSpec


class ConvNeXt(StaticOp):
    """Depthwise kxk, layer norm over channels, 1x1 expansion, activation, 1x1 projection, scale.

    The input is added. Where the block changes shape, a layer norm and a convolution over patches
    stand before it, as between the paper's stages.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "activation": False,
    }

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        channels, kernel_size = spec.out_channels, spec.get("kernel_size")
        changes = spec.stride != 1 or spec.in_channels != channels
        before = (ChannelNorm(spec.in_channels), Patchify(spec)) if changes else ()
        self.downsample = nn.Sequential(*before)
        self.depthwise = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.norm = ChannelNorm(channels)
        mid = expanded_channels(channels, spec)
        self.expand = nn.Conv2d(channels, mid, 1)
        self.act = activation(spec.get("activation"))
        self.project = nn.Conv2d(mid, channels, 1)
        self.scale = layer_scale(channels)
        self.drop_path = DropPath()

    def forward(self, images: Tensor) -> Tensor:
        shortcut: Tensor = self.downsample(images)
        out = self.project(self.act(self.expand(self.norm(self.depthwise(shortcut)))))
        return shortcut + self.drop_path(self.scale * out)
