"""Once-for-all's supernets (Cai et al., ICLR 2020): their tensors' names and ours.

From the authors' code (https://github.com/mit-han-lab/once-for-all, MIT; on PyPI `ofa`). Their own
loader takes a key whether `conv`, `bn` and `linear` stand in it once or twice, and calls a block
`mobile_inverted_conv` or `conv`; so does this one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, groupby

from nassearch.networks.published.supernet_format import PublishedSupernet

_ORIGIN = (
    "Once-for-All: Train One Network and Specialize it for Efficient Deployment (Cai et al., ICLR"
    " 2020), https://github.com/mit-han-lab/once-for-all"
)
_NOT_STATED = "not stated by the authors for the weights; their code is under MIT"
_DOUBLED = ("conv", "bn", "linear")

# The parts of a block, by once-for-all's names.
_MBCONV = {"inverted_bottleneck": "expand", "depth_conv": "depthwise", "point_linear": "project"}
_BOTTLENECK = {
    "conv1": "reduce", "conv2": "mix", "conv3": "expand", "downsample": "shortcut.project",
}  # fmt: skip


def spelled_once(key: str) -> str:
    """A key of any spelling as one: `conv.conv` as `conv`, `mobile_inverted_conv` as `conv`."""
    words = ["conv" if word == "mobile_inverted_conv" else word for word in key.split(".")]
    runs = [(word, len(list(run))) for word, run in groupby(words)]
    return ".".join(word for word, length in runs for _ in range(1 if word in _DOUBLED else length))


def layer_name(layer: str, leaf: str) -> str | None:
    """A convolution's or its norm's tensor: 'conv.weight' and 'bn.bias' below `layer`."""
    part, _, tensor = leaf.rpartition(".")
    if (part, tensor) == ("conv", "weight"):
        return f"{layer}.conv.weight"
    matrix = re.fullmatch(r"([0-9]+to[0-9]+)_matrix", tensor)
    if part == "conv" and matrix is not None:
        return f"{layer}.conv.kernel_{matrix[1]}"
    return f"{layer}.norm.{tensor}" if part == "bn" else None


def block_name(block: str, path: str) -> str | None:
    """A tensor of a block, MobileNet's or ResNet's, below `block`; None where it is none."""
    for parts, before in ((_MBCONV, "conv."), (_BOTTLENECK, "")):
        part, _, leaf = path.removeprefix(before).partition(".")
        if path.startswith(before) and part in parts:
            excite = re.fullmatch(r"se\.fc\.(reduce|expand)\.(weight|bias)", leaf)
            if part == "depth_conv" and excite is not None:
                return f"{block}.attention.{excite[1]}.{excite[2]}"
            return layer_name(f"{block}.{parts[part]}", leaf)
    return None


def _mobile_net(head: Mapping[str, str], depths: Sequence[int]) -> Callable[[str], str | None]:
    """The names of MobileNetV3 or ProxylessNAS: a stem, blocks counted through, a head."""

    def rename(key: str) -> str | None:
        first, _, rest = spelled_once(key).partition(".")
        if first == "blocks":
            return _in_stage(rest, depths, lambda stage, number: f"stages.{stage}.{number}.mbconv")
        if first == "first_conv":
            return layer_name("stem.conv.body", rest)
        if first == "classifier":
            return _classifier(rest)
        if head.get(first) == "features":
            return "head.head.features.weight" if rest == "conv.weight" else None
        return layer_name(f"head.head.{head[first]}", rest) if first in head else None

    return rename


def _residual_net(key: str) -> str | None:
    """The names of ResNet-50 D/E/W: three convolutions, blocks counted through, a classifier."""
    first, _, rest = spelled_once(key).partition(".")
    if first == "blocks":
        return _in_stage(
            rest, (4, 4, 6, 4), lambda stage, number: f"stages.{stage + 2}.{number}.bottleneck"
        )
    if first == "classifier":
        return _classifier(rest)
    if first != "input_stem":
        return None
    number, _, leaf = rest.partition(".")
    layers = {
        "0": "stages.0.0.residual_conv.body",
        "1": "stages.0.1.residual_conv.body",
        "2": "stages.1.0.pooled_conv.body",
    }
    if number == "1":  # within a residual block, whose `conv` runs into the layer's own
        leaf = "conv.weight" if leaf == "conv.weight" else leaf.removeprefix("conv.")
    return layer_name(layers[number], leaf) if number in layers else None


def _in_stage(path: str, depths: Sequence[int], block: Callable[[int, int], str]) -> str | None:
    """A tensor of a block that is counted through all stages."""
    index, _, rest = path.partition(".")
    ends = list(accumulate(depths))
    if not index.isdecimal() or int(index) >= ends[-1]:
        return None
    stage = next(stage for stage, end in enumerate(ends) if int(index) < end)
    return block_name(block(stage, int(index) - (ends[stage] - depths[stage])), rest)


def _classifier(leaf: str) -> str | None:
    names = {"linear.weight": "weight", "linear.bias": "bias"}
    return f"head.head.classifier.{names[leaf]}" if leaf in names else None


def _widths(op: str, widths: Mapping[int, int]) -> dict[str, int]:
    return {f"stages.{stage}.0.{op}.norm.weight": width for stage, width in widths.items()}


_V3_WIDTHS = _widths("mbconv.project", dict(enumerate((16, 24, 40, 80, 112, 160))))
_V3_NAMES = _mobile_net(
    {"final_expand_layer": "expand", "feature_mix_layer": "features"}, (1, 4, 4, 4, 4, 4)
)

_published = partial(
    PublishedSupernet, origin=_ORIGIN, licence=_NOT_STATED, preprocessing="imagenet"
)
MOBILENET_V3_W10 = _published(
    title="once-for-all MobileNetV3 w1.0",
    spaces=("mobilenet_v3", "ofa_mbv3_w10"),
    rename=_V3_NAMES,
    base_widths=_V3_WIDTHS,
)
MOBILENET_V3_W12 = _published(
    title="once-for-all MobileNetV3 w1.2",
    spaces=("ofa_mbv3_w12", "mobilenet_v3_w12"),
    rename=_V3_NAMES,
    base_widths=_V3_WIDTHS,
)
PROXYLESS_W13 = _published(
    title="once-for-all ProxylessNAS w1.3",
    spaces=("ofa_proxyless_w13",),
    rename=_mobile_net({"feature_mix_layer": "expand"}, (1, 4, 4, 4, 4, 4, 1)),
    base_widths=_widths("mbconv.project", dict(enumerate((16, 24, 40, 80, 96, 192, 320)))),
)
RESNET_50 = _published(
    title="once-for-all ResNet-50 D/E/W",
    spaces=("ofa_resnet50",),
    rename=_residual_net,
    base_widths=_widths("bottleneck.expand", {2: 256, 3: 512, 4: 1024, 5: 2048}),
    licence="MIT, in the author's repository on Hugging Face; their code is under MIT",
)
