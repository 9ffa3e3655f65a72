"""The layers that ops are made of, and what an op must be."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nassearch.errors import SpaceError
from nassearch.ops.side_by_side import convolve
from nassearch.space import BlockSpec
from nassearch.space.architecture import make_divisible

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class StaticOp(nn.Module):
    """A block as a plain module, built from a BlockSpec: (n, i, r, r) -> (n, o, r', r').

    An op is a subclass with `dimensions`, an `__init__` that builds its layers and a `forward`.
    The elastic form comes for free as long as a smaller block uses the leading channels of every
    weight and the centre of every kernel of a larger one.
    """

    dimensions: ClassVar[Mapping[str, bool]] = {}
    """The dimensions the op takes; True where a space must give them."""
    is_local: ClassVar[bool] = False
    """Whether an output pixel sees the input through one kernel of `kernel_size`, which has the
    stride, and a part of an image gives what the whole would: such ops can run patch by patch.
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()

    @staticmethod
    def check(spec: BlockSpec) -> None:
        """Raise SpaceError where the op cannot be built from `spec`."""

    @classmethod
    def training_form(cls) -> "type[StaticOp]":
        """The form a supernet holds, if not this one; its `reparameterize` gives this one."""
        return cls

    def reparameterize(self) -> "StaticOp":
        """This block in the form that is extracted, counted, timed and exported."""
        return self

    @staticmethod
    def sortable(spec: BlockSpec) -> bool:
        """Whether inner channels may change places: groups and ECA mix the neighbouring ones."""
        return spec.get("group_size") is None and spec.get("attention") != "eca"

    @staticmethod
    def of_full_shape(specs: Iterable[BlockSpec]) -> Iterable[BlockSpec]:
        """Those of the specs whose tensors are together as large as any, in every kernel size."""
        return specs

    def segments(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """Tensor -> for each axis the lengths that it is made of, where a smaller block uses the
        leading part of each; a tensor that is not named uses the leading part of every axis.
        """
        return {}

    def residual_norm(self) -> nn.BatchNorm2d | None:
        """The last norm before a residual is added, for zero initialisation; None without one."""
        return None

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError


def with_norm_eps(op: StaticOp, spec: BlockSpec) -> StaticOp:
    """`op` itself, each batch norm with the epsilon of `spec`; a traced graph says its own."""
    if spec.graph is not None:
        return op
    for module in op.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = spec.norm_eps
    return op


def odd_kernel(spec: BlockSpec) -> None:
    """SpaceError where the kernel has no centre pixel; stages cannot say so, a stem can."""
    kernel_size = spec.get("kernel_size")
    if kernel_size % 2 == 0:
        raise SpaceError(
            f"kernel sizes are odd, {kernel_size} is not",
            where="kernel_size",
            fix=f"write {kernel_size - 1} or {kernel_size + 1}",
        )


def check_group_size(spec: BlockSpec, channels: int) -> None:
    """SpaceError where the group size does not divide the channels that are convolved in groups."""
    group_size = spec.get("group_size", 1)
    if channels % group_size:
        raise SpaceError(
            f"{group_size} does not divide {channels} channels",
            where="group_size",
            fix=f"allowed here: {', '.join(map(str, _divisors(channels)))}",
        )


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def expanded_channels(channels: int, spec: BlockSpec) -> int:
    """`channels` times the block's expand ratio, rounded as MobileNet does."""
    return make_divisible(round(channels * spec.get("expand_ratio", 1)))


def layer_scale(channels: int) -> nn.Parameter:
    """A learned scale per channel, small at first (CaiT, Touvron et al., ICCV 2021, eq. 4)."""
    return nn.Parameter(torch.full((channels, 1, 1), 1e-6))


def activation(name: str | None) -> nn.Module:
    """The activation called `name`; identity for None."""
    if name is None:
        return nn.Identity()
    kind = ACTIVATIONS[name]
    return kind() if kind is nn.GELU else kind(inplace=True)


class DropPath(nn.Module):
    """In training, zero for a share `p` of the images, the others scaled up; else the input.

    Stochastic depth (Huang et al., ECCV 2016) for the branch beside a residual. A supernet sets `p`
    in every pass; a plain network has 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = 0.0

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return branch
        return branch * F.dropout(branch.new_ones(len(branch), 1, 1, 1), self.p)


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: str | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = activation(act)

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.norm(convolve(self.conv, images)))


class SqueezeExcite(nn.Module):
    """Channel attention: pool, squeeze, activation, expand, gate (Hu et al., CVPR 2018)."""

    def __init__(
        self, channels: int, squeezed: int, *, act: str = "relu", gate: str = "hsigmoid"
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = activation(act)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid(inplace=True) if gate == "hsigmoid" else nn.Sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        # a mean would leave ONNX Runtime's blocked layout
        pooled = F.adaptive_avg_pool2d(images, 1)
        return images * self.gate(self.expand(self.act(self.reduce(pooled))))


class EfficientChannelAttention(nn.Module):
    """ECA (Wang et al., CVPR 2020): a 1-D convolution of 5 over the pooled channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        pooled = images.mean((2, 3)).unsqueeze(1)
        gate = torch.sigmoid(self.conv(pooled))
        return images * gate.squeeze(1).unsqueeze(-1).unsqueeze(-1)


def attention(spec: BlockSpec, channels: int) -> nn.Module:
    """The channel attention of a block on `channels` of its channels; identity without one.

    `se` squeezes to a quarter of those channels, with a hard sigmoid, as MobileNetV3 (Howard et
    al., 2019); `se_input` to a quarter of the block's input, with SiLU and a sigmoid, as
    EfficientNet (Tan and Le, ICML 2019).
    """
    name = spec.get("attention")
    if name == "se":
        return SqueezeExcite(channels, make_divisible(channels // 4))
    if name == "se_input":
        return SqueezeExcite(channels, max(1, spec.in_channels // 4), act="silu", gate="sigmoid")
    return nn.Identity() if name is None else EfficientChannelAttention()


class Shortcut(nn.Module):
    """The input where the block keeps shape, else a strided 1x1 convolution with batch norm.

    With `shortcut: avgpool` the average over the stride goes into the convolution, which then has
    none (He et al., "Bag of Tricks", CVPR 2019, ResNet-D).
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        same = spec.stride == 1 and spec.in_channels == spec.out_channels
        pools = spec.get("shortcut") == "avgpool"
        self.pool = (
            nn.AvgPool2d(spec.stride, ceil_mode=True) if pools and not same else nn.Identity()
        )
        stride = 1 if pools else spec.stride
        self.project = (
            nn.Identity() if same else ConvNorm(spec.in_channels, spec.out_channels, stride=stride)
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.project(self.pool(images))
        return out


class Patchify(nn.Module):
    """A convolution over patches of stride x stride pixels that do not overlap, with bias.

    An incomplete patch at the edge is filled with zeros, so that the resolution rounds up.
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.missing = -spec.resolution % spec.stride
        self.conv = nn.Conv2d(spec.in_channels, spec.out_channels, spec.stride, stride=spec.stride)

    def forward(self, images: Tensor) -> Tensor:
        if self.missing:
            images = F.pad(images, (0, self.missing, 0, self.missing))
        out: Tensor = self.conv(images)
        return out


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, as in ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        last = images.permute(0, 2, 3, 1)
        out = F.layer_norm(last, self.weight.shape, self.weight, self.bias, 1e-6)
        return out.permute(0, 3, 1, 2)
