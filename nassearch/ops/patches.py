"""Non-overlapping patches: the stem of ConvNeXt and its kin."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from nassearch.errors import SpaceError
from nassearch.ops.layer import ChannelNorm, Patchify, StaticOp
from nassearch.space import BlockSpec


class PatchStem(StaticOp):
    """Convolution whose kernel is its stride, then layer norm over channels."""

    dimensions: ClassVar[Mapping[str, bool]] = {"kernel_size": True, "activation": False}

    @staticmethod
    def check(spec: BlockSpec) -> None:
        if spec.get("kernel_size") != spec.stride:
            raise SpaceError(
                f"kernel_size: {spec.get('kernel_size')} is not the stride {spec.stride}",
                fix="patches do not overlap",
            )
        if spec.get("activation") is not None:
            raise SpaceError("activation: patches take none", fix="activation: none")

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.patches = Patchify(spec)
        self.norm = ChannelNorm(spec.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.patches(images))
