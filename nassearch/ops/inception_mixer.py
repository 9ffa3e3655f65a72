"""InceptionNeXt block: a large depthwise kernel split into a square, two bands and identity."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from nassearch.ops.layer import (
    DropPath,
    Patchify,
    StaticOp,
    activation,
    expanded_channels,
    layer_scale,
)
from nassearch.space import BlockSpec

SQUARE = 3
SHARE = 8  # one eighth of the channels for each branch (Yu et al., CVPR 2024, section 3.2)


class InceptionMixer(StaticOp):
    """Depthwise 3x3, 1xk and kx1 on an eighth of the channels each, norm, 1x1 expansion and back.

    The other channels pass as they are. `kernel_size` is the length of the bands. The input is
    added; where the block changes shape, a norm and a convolution over patches stand before it.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "activation": False,
    }

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        channels, length = spec.out_channels, spec.get("kernel_size")
        changes = spec.stride != 1 or spec.in_channels != channels
        before = (nn.BatchNorm2d(spec.in_channels), Patchify(spec)) if changes else ()
        self.downsample = nn.Sequential(*before)
        part = max(1, channels // SHARE)
        self.parts = [channels - 3 * part, part, part, part]
        self.square = nn.Conv2d(part, part, SQUARE, padding=SQUARE // 2, groups=part)
        self.across = nn.Conv2d(part, part, (1, length), padding=(0, length // 2), groups=part)
        self.down = nn.Conv2d(part, part, (length, 1), padding=(length // 2, 0), groups=part)
        self.norm = nn.BatchNorm2d(channels)
        mid = expanded_channels(channels, spec)
        self.expand = nn.Conv2d(channels, mid, 1)
        self.act = activation(spec.get("activation"))
        self.project = nn.Conv2d(mid, channels, 1)
        self.scale = layer_scale(channels)
        self.drop_path = DropPath()

    def forward(self, images: Tensor) -> Tensor:
        shortcut: Tensor = self.downsample(images)
        same, square, across, down = shortcut.split(self.parts, dim=1)
        mixed = torch.cat((same, self.square(square), self.across(across), self.down(down)), dim=1)
        out = self.project(self.act(self.expand(self.norm(mixed))))
        return shortcut + self.drop_path(self.scale * out)
