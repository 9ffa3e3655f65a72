"""Once-for-all's own supernets, from the package `ofa`, with random values in every tensor."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import torch
from ofa.imagenet_classification.elastic_nn.networks import (
    OFAMobileNetV3,
    OFAProxylessNASNets,
    OFAResNets,
)
from torch import Tensor, nn

from nassearch.networks import Supernet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.space import Architecture, SearchSpace

_ELASTIC = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
TENSORS = {
    "ofa_mbv3_w10": 475, "ofa_mbv3_w12": 475, "ofa_proxyless_w13": 446, "ofa_resnet50": 368,
}  # fmt: skip


def build(name: str, *, seed: int = 0, **more: Any) -> nn.Module:
    """The supernet that `ofa.model_zoo` builds, random, in evaluation mode."""
    if name == "ofa_resnet50":
        elastic = {"expand_ratio_list": [0.2, 0.25, 0.35], "width_mult_list": [0.65, 0.8, 1.0]}
        network = OFAResNets(dropout_rate=0, depth_list=[0, 1, 2], **elastic, **more)
    elif name == "ofa_proxyless_w13":
        network = OFAProxylessNASNets(dropout_rate=0, width_mult=1.3, **_ELASTIC, **more)
    else:
        width = {"ofa_mbv3_w10": 1.0, "ofa_mbv3_w12": 1.2}.get(name) or float(name)
        network = OFAMobileNetV3(dropout_rate=0, width_mult=width, **_ELASTIC, **more)
    randomise(network, seed=seed)
    return network.eval()


def randomise(network: nn.Module, *, seed: int) -> None:
    """Give every tensor values as a training leaves them: none at a neutral one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(int(torch.randint(1, 1000, (), generator=generator)))
            elif name.endswith("_matrix"):
                noise = torch.empty_like(tensor).normal_(0, 0.05, generator=generator)
                tensor.copy_(torch.eye(len(tensor), dtype=tensor.dtype) + noise)
            elif name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.dim() == 1:
                tensor.normal_(0, 0.2, generator=generator)
            else:
                # larger weights make a network that magnifies the rounding of float32
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)


def set_architecture(network: nn.Module, architecture: Architecture) -> None:
    """Make theirs run what `architecture` is of our space."""
    if isinstance(network, OFAResNets):
        stem, mixed, *stages = architecture.stages
        sizes = [network.input_stem[0].out_channel_list, network.input_stem[2].out_channel_list]
        sizes += [network.blocks[i[0]].out_channel_list for i in network.grouped_block_index]
        widths = [
            choices.index(stage.width)
            for choices, stage in zip(sizes, architecture.stages, strict=True)
        ]
        depths = [2 if len(stem.blocks) == 2 else 0]
        depths += [len(s.blocks) - base for s, base in zip(stages, (2, 2, 4, 2), strict=True)]
        ratios = _padded([s.blocks for s in stages], (4, 4, 6, 4), "expand_ratio", 0.2)
        network.set_active_subnet(d=depths, e=ratios, w=widths)
        assert len(mixed.blocks) == 1
        return
    stages = architecture.stages[1:]
    most = [4] * 5 + [1] * (len(stages) - 5)
    kernels = _padded([s.blocks for s in stages], most, "kernel_size", 3)
    ratios = _padded([s.blocks for s in stages], most, "expand_ratio", 3)
    network.set_active_subnet(ks=kernels, e=ratios, d=[len(s.blocks) for s in stages])


def _padded(
    stages: Sequence[Sequence[Any]], depths: Sequence[int], dimension: str, missing: Any
) -> list[Any]:
    """A dimension of every block that can be, `missing` for those that are not."""
    return [
        dict(blocks[number].choices)[dimension] if number < len(blocks) else missing
        for blocks, depth in zip(stages, depths, strict=True)
        for number in range(depth)
    ]


@dataclass(frozen=True)
class Differences:
    """The largest differences of logits, over the largest logit of each network."""

    networks: int
    supernet: float
    extracted: float
    onnx: float


def subnets(space: SearchSpace, count: int, *, seed: int) -> list[Architecture]:
    """The extremes of a space and random networks of it."""
    return [space.smallest, space.largest, *space.sample_many(np.random.default_rng(seed), count)]


def compare(
    theirs: nn.Module,
    ours: Supernet,
    architectures: Iterable[Architecture],
    resolutions: Sequence[int],
    *,
    each: int | None = None,
    in_onnx: int = 0,
) -> Differences:
    """Run both on the same images: each network at `each` of the resolutions in turn, or at all.

    The first `in_onnx` networks also run through ONNX, at the first resolution that they have.
    """
    dtype = next(ours.parameters()).dtype
    generator = torch.Generator().manual_seed(1)
    number = 0
    seen: list[Tensor] = []
    worst = {"supernet": 0.0, "extracted": 0.0, "onnx": 0.0}
    with torch.no_grad():
        for number, architecture in enumerate(architectures, start=1):
            set_architecture(theirs, architecture)
            subnet = ours.extract(architecture)
            count = len(resolutions) if each is None else each
            first = (number - 1) * count
            chosen = [resolutions[(first + n) % len(resolutions)] for n in range(count)]
            for resolution in chosen:
                # colours of its own, or averages over noise would make all images alike
                images = torch.randn(1, 3, resolution, resolution, generator=generator).to(dtype)
                images += 2 * torch.randn(1, 3, 1, 1, generator=generator).to(dtype)
                expected = theirs(images)
                seen.append(expected[0])
                found = ours(images, architecture, resolution=resolution)
                _note(worst, "supernet", found, expected)
                _note(worst, "extracted", subnet(images), expected)
                if number <= in_onnx and resolution == chosen[0]:
                    _note(worst, "onnx", _through_onnx(subnet, images), expected)
    # two images do not give the same: it is not the biases alone that are compared
    apart = [float((a - b).abs().max() / a.abs().max()) for a, b in pairwise(seen)]
    assert median(apart) > 1e-2, apart
    return Differences(number, **worst)


def _note(worst: dict[str, float], name: str, found: Tensor, expected: Tensor) -> None:
    difference = float((found - expected).abs().max() / expected.abs().max())
    worst[name] = max(worst[name], difference)


def _through_onnx(subnet: nn.Module, images: Tensor) -> Tensor:
    import onnxruntime

    graph = to_onnx(subnet, tuple(images.shape[1:]))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


def respelled(tensors: Mapping[str, Tensor], spelling: str) -> dict[str, Tensor]:
    """The same tensors by keys of another spelling that once-for-all's loader takes."""

    def rename(key: str) -> str:
        if spelling == "single":
            for twice, once in ((".bn.bn.", ".bn."), (".conv.conv.weight", ".conv.weight"),
                                (".linear.linear.", ".linear.")):  # fmt: skip
                key = key.replace(twice, once)
        if spelling == "mobile_inverted_conv" and key.startswith("blocks."):
            words = key.split(".")
            words[2] = "mobile_inverted_conv" if words[2] == "conv" else words[2]
            key = ".".join(words)
        return key

    return {rename(key): tensor for key, tensor in tensors.items()}
