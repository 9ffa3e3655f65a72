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
                f"{spec.get('kernel_size')} is not the stride {spec.stride}",
                where="kernel_size",
                fix=f"patches do not overlap: write {spec.stride}",
            )
        if spec.get("activation") is not None:
            raise SpaceError("patches take none", where="activation", fix="write activation: none")

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.patches = Patchify(spec)
        self.norm = ChannelNorm(spec.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.patches(images))
