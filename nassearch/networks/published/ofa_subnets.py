"""Once-for-all's specialised subnets: a `net_config` as JSON, read as a space of one network.

Each of its blocks is a stage of depth 1, so that any kernel and any ratio may stand anywhere.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nassearch.errors import CheckpointError
from nassearch.networks.published.ofa_supernets import block_name, layer_name, spelled_once
from nassearch.networks.subnet import Subnet
from nassearch.ops import check_space
from nassearch.space import SearchSpace, lower
from nassearch.space.architecture import NORM_EPS, make_divisible

_ACTIVATIONS = {
    None: "none", "relu": "relu", "relu6": "relu6", "h_swish": "hswish", "swish": "silu",
}  # fmt: skip
_FIX = "give the net.config that lies beside the weights"
_KINDS = ("MobileNetV3", "ProxylessNASNets", "ResNets")


def read_net_config(config: object, *, resolution: int, name: str, where: object) -> SearchSpace:
    """The space whose one network a `net_config` describes.

    Args:
        config: The content of the JSON file.
        resolution: Pixels of its images, `image_size` of the run.config beside it.
        name: What the space is called.
        where: The file, for messages.

    Raises:
        CheckpointError: It is no such config, or of a network that cannot be said.
    """
    if not isinstance(config, Mapping) or "blocks" not in config:
        raise CheckpointError("is no net_config of once-for-all", where=where, fix=_FIX)
    kind = config.get("name")
    if kind not in _KINDS:
        raise CheckpointError(
            f"describes a '{kind}'", where=where, fix=f"what is read: {', '.join(_KINDS)}"
        )
    try:
        content = _residual_net(config) if kind == "ResNets" else _mobile_net(config)
        first = config["first_conv"] if "first_conv" in config else config["input_stem"][0]
        content |= {
            "name": name,
            "in_channels": first["in_channels"],
            "description": "a specialised network of once-for-all",
            "resolution": resolution,
            "num_classes": config["classifier"]["out_features"],
            "norm_eps": config.get("bn", {}).get("eps", NORM_EPS),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"is no net_config that is understood ({type(error).__name__}: {error})",
            where=where,
            fix=_FIX,
        ) from error
    return check_space(SearchSpace.from_dict(content, where=where))


def load_specialised(space: SearchSpace, tensors: Mapping[str, Tensor], *, where: object) -> Subnet:
    """The network of a space of one, with the tensors of its published file.

    Raises CheckpointError where a tensor is missing, is of another shape or belongs nowhere.
    """
    subnet = Subnet(lower(space, space.largest))
    own = subnet.state_dict()
    known: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = _name(key, space, len(subnet.specs))
        if name is None or name not in own:
            raise CheckpointError(
                f"holds '{key}', of which the config has nothing", where=where, fix=_FIX
            )
        known[name] = tensor
    for name, tensor in own.items():
        counts = name.endswith("num_batches_tracked")
        if name in known and known[name].numel() == tensor.numel():
            continue
        if name in known or not counts:
            found = tuple(known[name].shape) if name in known else "nothing"
            raise CheckpointError(
                f"{name} is {found}, in the config {tuple(tensor.shape)}", where=where, fix=_FIX
            )
    with torch.no_grad():
        for name, tensor in known.items():
            own[name].copy_(tensor.reshape(own[name].shape))
    return subnet.eval()


def _mobile_net(config: Mapping[str, Any]) -> dict[str, Any]:
    stem, pooled, features = (
        config.get(name) for name in ("first_conv", "final_expand_layer", "feature_mix_layer")
    )
    assert stem is not None and features is not None
    expand = features if pooled is None else pooled
    head = {"activation": _activation(expand), "expand_width": expand["out_channels"]}
    if pooled is not None:
        head["feature_width"] = features["out_channels"]
    choices = ("kernel_size", "stride")
    return {
        "stem": {
            "op": "conv",
            "width": stem["out_channels"],
            "activation": _activation(stem),
            **{name: stem[name] for name in choices},
        },
        "stages": [_inverted_residual(block) for block in config["blocks"]],
        "head": head,
    }


def _residual_net(config: Mapping[str, Any]) -> dict[str, Any]:
    *layers, last = config["input_stem"]
    stages = []
    for layer in (*layers, last):
        is_residual = layer["name"] == "ResidualBlock"
        conv = layer["conv"] if is_residual else layer
        op = "pooled_conv" if layer is last else "residual_conv" if is_residual else "conv"
        stages.append(
            {
                "op": op,
                "width": conv["out_channels"],
                "stride": conv["stride"] * (2 if layer is last else 1),
                "kernel_size": conv["kernel_size"],
                "activation": _activation(conv),
            }
        )
    return {"stages": stages + [_bottleneck(block) for block in config["blocks"]]}


def _bottleneck(block: Mapping[str, Any]) -> dict[str, Any]:
    if block["name"] != "ResNetBottleneckBlock" or block.get("groups", 1) != 1:
        raise ValueError(f"a block is a {block['name']} of {block.get('groups')} groups")
    width = block["out_channels"]
    averages = block.get("downsample_mode", "avgpool_conv") == "avgpool_conv"
    return {
        "op": "bottleneck",
        "width": width,
        "stride": block["stride"],
        "kernel_size": block["kernel_size"],
        "expand_ratio": _ratio(width, block),
        "activation": _activation(block),
        **({"shortcut": "avgpool"} if averages else {}),
    }


def _inverted_residual(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block as a stage of its own; ValueError where it is no inverted residual of ours."""
    layer = block.get("conv") or block["mobile_inverted_conv"]
    if layer["name"] not in ("MBConvLayer", "MBInvertedConvLayer"):
        raise ValueError(f"a block is a {layer['name']}")
    width, inputs = layer["out_channels"], layer["in_channels"]
    keeps_shape = layer["stride"] == 1 and inputs == width
    if keeps_shape != (block.get("shortcut") is not None):
        raise ValueError("a block that keeps its shape has no shortcut, or another has one")
    if layer.get("groups") not in (None, 1):
        raise ValueError("a block is convolved in groups")
    return {
        "op": "mbconv",
        "width": width,
        "stride": layer["stride"],
        "kernel_size": layer["kernel_size"],
        "expand_ratio": 1 if layer["expand_ratio"] == 1 else _ratio(inputs, layer),
        "activation": _activation(layer),
        **({"attention": "se"} if layer.get("use_se") else {}),
    }


def _ratio(channels: int, block: Mapping[str, Any]) -> float:
    """The ratio that gives a block its middle channels, which win where both are said."""
    ratio: float = block["expand_ratio"]
    middle: int | None = block.get("mid_channels")
    if middle is None or make_divisible(round(channels * ratio)) == middle:
        return ratio
    if make_divisible(round(channels * (middle / channels))) != middle:
        raise ValueError(f"{middle} middle channels are no multiple of 8")
    return middle / channels


def _activation(layer: Mapping[str, Any]) -> str:
    return _ACTIVATIONS[layer["act_func"]]


def _name(key: str, space: SearchSpace, num_specs: int) -> str | None:
    """Our name of a tensor of a plain network, whose blocks are counted through."""
    first, _, rest = spelled_once(key).partition(".")
    number, _, path = rest.partition(".")
    head = f"blocks.{num_specs - 1}"
    if first == "first_conv":
        return layer_name("blocks.0.body", rest)
    if first == "input_stem" and number.isdecimal():
        leaf = path if path == "conv.weight" else path.removeprefix("conv.")
        return layer_name(f"blocks.{number}.body", leaf)
    if first == "blocks" and number.isdecimal():
        before = num_specs - 1 - _num_blocks(space)
        return block_name(f"blocks.{int(number) + before}", path)
    if first == "classifier":
        return f"{head}.classifier.{rest.removeprefix('linear.')}"
    has_features = space.definition.head.feature_width is not None
    if first == "feature_mix_layer" and has_features:
        return f"{head}.features.weight" if rest == "conv.weight" else None
    if first in ("final_expand_layer", "feature_mix_layer"):
        return layer_name(f"{head}.expand", rest)
    return None


def _num_blocks(space: SearchSpace) -> int:
    """How many stages are blocks of once-for-all's: all but those of ResNet's stem."""
    ops = [op for stage in space.definition.stages for op, _ in stage.alternatives()]
    return sum(op in ("mbconv", "bottleneck") for op in ops)
