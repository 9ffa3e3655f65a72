"""Nothing at all: a block that a network may leave out, without weights."""

import torch.nn.functional as F
from torch import Tensor

from nassearch.ops.layer import StaticOp
from nassearch.space import BlockSpec


class Skip(StaticOp):
    """The input as it is where the block keeps shape.

    Elsewhere the input averaged over the stride, channels cut off or filled with zeros (the
    parameter-free shortcut, option A of He et al., CVPR 2016), so that it can stand anywhere.
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.stride = spec.stride
        self.added = spec.out_channels - spec.in_channels

    def forward(self, images: Tensor) -> Tensor:
        out = images
        if self.stride > 1:
            out = F.avg_pool2d(out, self.stride, ceil_mode=True)
        if self.added < 0:
            out = out[:, : self.added]
        return F.pad(out, (0, 0, 0, 0, 0, self.added)) if self.added > 0 else out
