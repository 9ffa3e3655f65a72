"""Starting a supernet from trained weights of a smaller or different one, or of a plain network.

Function-preserving where Net2Net's transformations allow (Chen et al., ICLR 2016; Cai et al.,
"Efficient Architecture Search by Network Transformation", AAAI 2018). Known weights take the
leading channels and the centre of each kernel, where a smaller architecture finds them. What is
larger adds nothing at first: old channels do not read new ones, the ring around a kernel is zero,
and a block that the stage did not have leaves its input as it is. New channels are random rather
than replicated, so that they differ from the start. Thus the old architectures and the larger ones
that contain them compute what was learned, except where no such start exists: a layer norm over
more channels, a mixer that splits its channels by their number, an expansion where there was none,
a new block whose residual ends in no single norm or scale. `TransferReport.change` measures the
outcome.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nassearch.errors import CheckpointError
from nassearch.networks.subnet import Subnet
from nassearch.networks.supernet import Supernet
from nassearch.networks.wiring import relative_difference
from nassearch.ops import Elastic, static_op
from nassearch.ops.elastic import elastic_specs
from nassearch.space import Architecture, BlockSpec, lower, slots

Kernel = tuple[int, ...]
Steps = Mapping[Kernel, tuple[Kernel, Tensor]]  # kernel -> the next smaller one, and its matrix
_TRANSFORM = re.compile(r"(?P<path>.+)\.kernel_(?P<larger>[0-9x]+)to(?P<smaller>[0-9x]+)")


@dataclass(frozen=True)
class TransferReport:
    """What became of a supernet's tensors, by name, and how far its function moved.

    `copied` from the source, whole or the leading part; `grown` around the source's; `new`, known
    to no source. `change` is the largest difference between the logits of the two largest networks
    (for a plain network: of it and its architecture), over the largest logit; None where they take
    different images or tell different classes apart.
    """

    copied: tuple[str, ...]
    grown: tuple[str, ...]
    new: tuple[str, ...]
    change: float | None

    def __str__(self) -> str:
        counts = f"{len(self.copied)} tensors copied, {len(self.grown)} grown, {len(self.new)} new"
        if self.change is None:
            return f"{counts}; the outputs cannot be compared"
        return f"{counts}; the largest network's outputs changed by {self.change:.2g}"


@dataclass(frozen=True)
class _Source:
    """Known tensors by the supernet's names, and the function that `architecture` should keep."""

    tensors: Mapping[str, Tensor]
    network: Callable[[Tensor], Tensor]
    architecture: Architecture | None


def transfer_weights(
    supernet: Supernet, other: nn.Module, *, architecture: Architecture | None = None
) -> TransferReport:
    """Start `supernet`, in place, from the trained weights of another space's, as far as known.

    Wider, deeper and larger-kernel networks compute at first what the old ones do; the head of this
    module says where that cannot be.

    Args:
        supernet: Is written into.
        other: Another supernet, or a plain network (torchvision's, say).
        architecture: The architecture of the supernet's space that a plain network is.

    Returns:
        The tensors that were copied, grown and new.

    Raises:
        CheckpointError: A plain network's layers are not the architecture's.
    """
    if architecture is not None:
        source = _of_network(supernet, other, architecture)
    elif isinstance(other, Supernet):
        source = _of_supernet(supernet, other)
    else:
        raise CheckpointError(
            f"a {type(other).__name__} does not say which network of a space it is",
            where=f"transfer_weights, space {supernet.space.name}",
            fix="give its architecture",
        )
    known_steps, own_steps = _steps(source.tensors), _steps(supernet.state_dict())
    outcomes: dict[str, list[str]] = {"copied": [], "grown": [], "new": []}
    with torch.no_grad():
        for name, own in supernet.state_dict().items():
            match = _TRANSFORM.fullmatch(name)
            path = match["path"] if match else name.rpartition(".")[0]
            steps = known_steps.get(path, {})
            if match:
                known = source.tensors.get(f"{path}.weight")
                kept = _keep_step(own, match, known, steps=steps, own_steps=own_steps[path])
            else:
                kept = _keep(own, source.tensors.get(name), steps=steps)
            outcomes[kept].append(name)
        _silence_new_blocks(supernet, source.tensors)
    return TransferReport(
        tuple(outcomes["copied"]),
        tuple(outcomes["grown"]),
        tuple(outcomes["new"]),
        None if source.architecture is None else _change(supernet, other, source),
    )


# -- sources ---------------------------------------------------------------------------------------


def _of_supernet(supernet: Supernet, other: Supernet) -> _Source:
    old, new = other.space, supernet.space
    tensors = dict(other.state_dict())
    if old.num_classes != new.num_classes:  # other classes share nothing but their number
        tensors = {name: tensor for name, tensor in tensors.items() if ".classifier." not in name}
    pixels = sorted(set(old.resolutions) & set(new.resolutions))
    same = (old.in_channels, old.num_classes) == (new.in_channels, new.num_classes)
    comparable = bool(pixels) and same
    resolution = pixels[0] if comparable else old.largest.resolution
    past = replace(old.largest, resolution=resolution)
    return _Source(
        tensors,
        lambda images: other(images, past),
        replace(new.largest, resolution=resolution) if comparable else None,
    )


def _of_network(supernet: Supernet, other: nn.Module, architecture: Architecture) -> _Source:
    """A plain network's tensors, matched one by one with those of the architecture's blocks."""
    with torch.device("meta"):
        blocks = Subnet(lower(supernet.space, architecture)).blocks
    names = {id(module): name for name, module in supernet.named_modules()}
    expected = [
        (f"{names[id(op)]}.{name}", tensor)
        for (op, _), block in zip(supernet.walk(architecture), blocks, strict=True)
        for name, tensor in _in_order(block)
    ]
    given = list(_in_order(other))
    for (name, own), (given_name, tensor) in zip(expected, given, strict=False):
        if own.shape != tensor.shape:
            raise CheckpointError(
                f"'{given_name}' has the shape {tuple(tensor.shape)}"
                f" where {name} has {tuple(own.shape)}",
                where=type(other).__name__,
                fix="its layers must come in the order and the shapes of the architecture's",
            )
    if len(expected) != len(given):
        raise CheckpointError(
            f"has {len(given)} tensors where the architecture has {len(expected)}",
            where=type(other).__name__,
            fix="build it with the same layers, or name the architecture that it has",
        )
    tensors = {name: tensor for (name, _), (_, tensor) in zip(expected, given, strict=True)}
    return _Source(tensors, other, architecture)


def _in_order(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers layer by layer, in the order the layers were registered."""
    for path, child in module.named_modules():
        for own in (child.named_parameters(recurse=False), child.named_buffers(recurse=False)):
            for name, tensor in own:
                yield f"{path}.{name}" if path else name, tensor


# -- one tensor ------------------------------------------------------------------------------------


def _keep(own: Tensor, known: Tensor | None, *, steps: Steps) -> str:
    """Write what is known of a tensor into it; what became of it."""
    if known is not None and own.dim() == 4 and own.shape[2:] != known.shape[2:]:
        fitted = _fitted(known, tuple(own.shape[2:]), steps)
    else:
        fitted = known
    if known is None or fitted is None or fitted.dim() != own.dim():
        if _is_branch_scale(own):
            own.zero_()
        return "new"
    leading = tuple(slice(min(sizes)) for sizes in zip(own.shape, fitted.shape, strict=True))
    if own.dim() > 1:
        own[leading[0], fitted.shape[1] :] = 0.0  # old channels do not read new ones
    own[leading] = fitted[leading]
    grows = any(size > before for size, before in zip(own.shape, known.shape, strict=True))
    return "grown" if grows else "copied"


def _keep_step(
    own: Tensor, match: re.Match[str], known: Tensor | None, *, steps: Steps, own_steps: Steps
) -> str:
    """Write a known kernel matrix, where the kernel it starts from is still the same."""
    smaller = _kernel(match["smaller"])
    for larger, (into, matrix) in steps.items():
        if into != smaller or known is None:
            continue
        largest = max(own_steps)
        if larger in own_steps or larger > largest or larger == tuple(known.shape[2:]):
            own.copy_(matrix)
            return "copied"
    own.copy_(torch.eye(len(own)))
    return "new"


def _fitted(weight: Tensor, kernel: Kernel, steps: Steps) -> Tensor | None:
    """A weight as the kernel would use it: learned matrices downwards, zeros around it upwards."""
    while tuple(weight.shape[2:]) != kernel and tuple(weight.shape[2:]) in steps:
        smaller, matrix = steps[tuple(weight.shape[2:])]
        if any(size < goal for size, goal in zip(smaller, kernel, strict=True)):
            break
        centre = _centred(weight, smaller)
        assert centre is not None
        weight = F.linear(centre.flatten(2), matrix).unflatten(2, smaller)
    return _centred(weight, kernel)


def _centred(weight: Tensor, kernel: Kernel) -> Tensor | None:
    """The weight cut or filled with zeros around its centre; None where it has no such centre."""
    high, wide = (size - old for size, old in zip(kernel, weight.shape[2:], strict=True))
    if high % 2 or wide % 2:
        return None
    return F.pad(weight, (wide // 2, wide // 2, high // 2, high // 2))


def _is_branch_scale(tensor: Tensor) -> bool:
    """A learned scale per channel of a branch beside another, which is silent at zero."""
    return tensor.dim() == 3 and tensor.shape[1:] == (1, 1)


def _steps(tensors: Mapping[str, Tensor]) -> dict[str, dict[Kernel, tuple[Kernel, Tensor]]]:
    """The kernel matrices by the module path of their weight."""
    steps: dict[str, dict[Kernel, tuple[Kernel, Tensor]]] = {}
    for name, tensor in tensors.items():
        match = _TRANSFORM.fullmatch(name)
        if match:
            step = (_kernel(match["smaller"]), tensor)
            steps.setdefault(match["path"], {})[_kernel(match["larger"])] = step
    return steps


def _kernel(text: str) -> Kernel:
    """'5' or '1x5' as (height, width)."""
    sizes = tuple(map(int, text.split("x")))
    return sizes * 2 if len(sizes) == 1 else sizes


# -- the whole -------------------------------------------------------------------------------------


def _silence_new_blocks(supernet: Supernet, known: Iterable[str]) -> None:
    """Zero the last norm of residual blocks of which nothing is known: they add nothing."""
    heard = {path for name in known for path in _paths(name)}
    for place, norm in _residual_norms(supernet):
        if place not in heard:
            for parameter in norm.parameters():
                parameter.zero_()


def zero_gamma(supernet: Supernet) -> None:
    """Scale every residual branch by zero at first, where all blocks of a place have one.

    Each block is then the identity, which eases the start (Yu et al., "BigNAS", ECCV 2020, 3.2).
    """
    with torch.no_grad():
        for _, norm in _residual_norms(supernet):
            nn.init.zeros_(norm.get_parameter("weight"))


def scale_outer_channels(supernet: Supernet, scale: float) -> None:
    """Multiply the batch-norm scales of the channels that the smallest block of a place lacks.

    Wider networks then compute at first nearly what narrow ones do, so that their gradients agree:
    with independent channels those of two widths are nearly orthogonal (experiments/cifar10-front).
    """
    for op in supernet.modules():
        if not isinstance(op, Elastic):
            continue
        shapes, parameters = op.shared_shapes(), dict(op.named_parameters())
        for name in shapes:
            path, _, leaf = name.rpartition(".")
            if leaf == "weight" and f"{path}.running_mean" in shapes:
                with torch.no_grad():
                    parameters[name][shapes[name][0] :] *= scale


def _residual_norms(supernet: Supernet) -> Iterator[tuple[str, nn.Module]]:
    """The path of each residual op and the norm before its residual."""
    for slot in slots(supernet.space):
        place = ".".join(["stages", *re.findall(r"[0-9]+", slot.name)])
        if place == "stages":
            continue  # the stem or the head
        ops = supernet.get_submodule(place).named_children()
        for (name, op), specs in zip(ops, elastic_specs(slot.specs).values(), strict=True):
            norm = _residual_norm(specs)
            if norm is not None:
                yield f"{place}.{name}", op.get_submodule(norm)


def _paths(name: str) -> Iterator[str]:
    """Every module path that a tensor's name leads through."""
    while name := name.rpartition(".")[0]:
        yield name


def _residual_norm(specs: Sequence[BlockSpec]) -> str | None:
    """The name of the norm before the residual of one op's blocks; None where one has none."""
    of_shape = {(spec.in_channels, spec.out_channels, spec.stride): spec for spec in specs}
    paths: set[str | None] = set()
    for spec in of_shape.values():
        with torch.device("meta"):
            twin = static_op(spec.op).training_form()(spec)
        norm = twin.residual_norm()
        names = [name for name, module in twin.named_modules() if module is norm]
        paths.add(names[0] if names else None)
    return paths.pop() if len(paths) == 1 else None


def _change(supernet: Supernet, other: nn.Module, source: _Source) -> float:
    """The largest difference of logits over two random images, over the largest logit."""
    architecture = source.architecture
    assert architecture is not None
    generator = torch.Generator().manual_seed(0)
    device = next(supernet.parameters()).device
    pixels, channels = architecture.resolution, supernet.space.in_channels
    images = torch.randn(2, channels, pixels, pixels, generator=generator).to(device)
    modes = [(module, module.training) for module in (supernet, other)]
    with torch.no_grad():
        for module, _ in modes:
            module.eval()
        before, after = source.network(images), supernet(images, architecture)
        for module, mode in modes:
            module.train(mode)
    return relative_difference(after, before)
