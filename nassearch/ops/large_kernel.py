"""Large depthwise kernel, trained with parallel dilated small ones and merged at extraction.

After UniRepLKNet (Ding et al., CVPR 2024). There each branch has a norm of its own, which can be
folded only when its statistics are frozen, while a subnet's statistics are measured after it was
extracted. Here each branch has a learned scale and one norm follows their sum (linear scaling
instead of branch norms: Hu et al., OREPA, CVPR 2022), so merging is exact at any moment, and the
merged network keeps the norm that recalibration needs.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from nassearch.ops.layer import ConvNorm, DropPath, StaticOp, attention
from nassearch.space import BlockSpec

# Kernel -> dilation -> kernel size of its branches, as in the authors' `DilatedReparamBlock`. Their
# table ends at 17; larger kernels (RepLKNet's reach 31) have all of its dilations here. Kernels
# share the branches of a dilation like any kernel: a smaller one is the centre of a larger one.
BRANCHES: Mapping[int, Mapping[int, int]] = {
    5: {1: 3, 2: 3},
    7: {1: 5, 2: 3, 3: 3},
    9: {1: 5, 2: 5, 3: 3, 4: 3},
    11: {1: 5, 2: 5, 3: 3, 4: 3, 5: 3},
    13: {1: 5, 2: 7, 3: 3, 4: 3, 5: 3},
    15: {1: 5, 2: 7, 3: 3, 5: 3, 7: 3},
    17: {1: 5, 2: 9, 4: 3, 5: 3, 7: 3},
    19: {1: 5, 2: 9, 3: 3, 4: 3, 5: 3, 7: 3},
}


def branches_of(kernel_size: int) -> Mapping[int, int]:
    """Dilation -> kernel size of the branches beside a kernel; none beside one under 5."""
    return BRANCHES.get(min(kernel_size, max(BRANCHES)), {})


class LargeKernel(StaticOp):
    """Large depthwise convolution, norm, attention, 1x1 expansion, activation, 1x1 projection.

    The input is added where the block keeps shape.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {
        "kernel_size": True,
        "expand_ratio": True,
        "activation": False,
        "attention": False,
    }

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self.depthwise = _depthwise(spec, spec.get("kernel_size"))
        self.norm = nn.BatchNorm2d(spec.in_channels)
        self.attention = attention(spec, spec.in_channels)
        self.expand = ConvNorm(spec.in_channels, spec.mid_channels, act=spec.get("activation"))
        self.project = ConvNorm(spec.mid_channels, spec.out_channels)
        self.drop_path = DropPath()
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    @classmethod
    def training_form(cls) -> type[StaticOp]:
        return BranchedLargeKernel

    def residual_norm(self) -> nn.BatchNorm2d | None:
        return self.project.norm if self.residual else None

    def forward(self, images: Tensor) -> Tensor:
        mixed = self.norm(self.depthwise(images))
        out: Tensor = self.project(self.expand(self.attention(mixed)))
        return images + self.drop_path(out) if self.residual else out


class BranchedLargeKernel(StaticOp):
    """The form that is trained: `LargeKernel` with dilated branches beside its depthwise kernel."""

    dimensions = LargeKernel.dimensions

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        self._spec = spec
        self.block = LargeKernel(spec)
        self.branches = nn.ModuleDict(
            {
                f"d{dilation}": _depthwise(spec, size, dilation=dilation)
                for dilation, size in branches_of(spec.get("kernel_size")).items()
            }
        )
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(torch.ones(spec.in_channels, 1, 1)) for name in self.branches}
        )

    def reparameterize(self) -> StaticOp:
        """The branches added into the large kernel, each small tap at its dilated place."""
        plain = LargeKernel(self._spec).train(self.training)
        plain.load_state_dict(self.block.state_dict())
        with torch.no_grad():
            for name, branch in self.branches.items():
                assert isinstance(branch, nn.Conv2d)
                large = plain.depthwise.weight
                reach = (branch.kernel_size[0] - 1) * branch.dilation[0]
                start, step = (large.shape[-1] - 1 - reach) // 2, branch.dilation[0]
                taps = slice(start, start + reach + 1, step)
                large[:, :, taps, taps] += branch.weight * self.scales[name].unsqueeze(-1)
        return plain

    def residual_norm(self) -> nn.BatchNorm2d | None:
        return self.block.residual_norm()

    def forward(self, images: Tensor) -> Tensor:
        block = self.block
        mixed: Tensor = block.depthwise(images)
        for name, branch in self.branches.items():
            mixed = mixed + self.scales[name] * branch(images)
        out: Tensor = block.project(block.expand(block.attention(block.norm(mixed))))
        return images + block.drop_path(out) if block.residual else out


def _depthwise(spec: BlockSpec, kernel_size: int, *, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        spec.in_channels,
        spec.in_channels,
        kernel_size,
        stride=spec.stride,
        padding=kernel_size // 2 * dilation,
        dilation=dilation,
        groups=spec.in_channels,
        bias=False,
    )
