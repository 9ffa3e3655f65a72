"""How much the loss minds the quantization of each block: HAWQ's order, before any is quantized.

After HAWQ-V2 (Dong et al., NeurIPS 2020). Where a network is trained, the gradient is small, and
rounding its weights by d changes the loss by d' H d / 2 (Taylor, their equation 2 and lemma 1). For
rounding errors that have nothing to do with the curvature that is, in the mean, the average
eigenvalue of H times |d|^2 / 2: their measure for a block is Tr(H) / n |Q(W) - W|^2 (section 3.1),
and with the block's output in place of its weights for activations (section 3.3). The trace is
never formed: v' H v has it as its mean for v of independent signs (Hutchinson, 1989; their
algorithm 2), and H v is the gradient of g' v. They count a block's output; what layers within it
read is rounded too, and between an expansion and its reader mostly the worst.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nassearch.data.dataset import Data
from nassearch.data.image_set import in_memory
from nassearch.data.seeding import Stream, torch_generator
from nassearch.networks import Subnet, Supernet
from nassearch.networks.norm_folding import fold_norms
from nassearch.training.evaluation import Evaluator

NUM_IMAGES = 256
BATCH_SIZE = 64
NUM_PROBES = 8
_LEVELS = 255  # of an unsigned activation
_MOST = 127  # of a signed weight


@dataclass(frozen=True, slots=True)
class PartSensitivity:
    """Of a block's weights, of what its layers read within it, or of its output.

    `mean_eigenvalue` is Tr(H) / n, `relative_error` its standard error as a share of it, and
    `squared_error` what int8 adds: |Q(x) - x|^2, of activations the mean of an image. Of several
    tensors it is the sum, and the eigenvalue their mean, weighted by their errors.
    """

    mean_eigenvalue: float
    relative_error: float
    squared_error: float

    @property
    def loss_increase(self) -> float:
        """What int8 adds to the loss, in nats; a curvature that is not positive counts as none."""
        return max(0.0, self.mean_eigenvalue) * self.squared_error / 2


@dataclass(frozen=True, slots=True)
class BlockSensitivity:
    """What int8 in one block of a network adds to its loss, as far as curvature tells."""

    block: int
    key: str
    """Of its specification."""
    weights: PartSensitivity
    inner: PartSensitivity
    output: PartSensitivity

    @property
    def loss_increase(self) -> float:
        """In nats, of all parts together: blocks go to int8 from the least on."""
        return sum(part.loss_increase for part in (self.weights, self.inner, self.output))


def supernet_sensitivity(
    supernet: Supernet,
    data: Data,
    *,
    num_images: int = NUM_IMAGES,
    num_probes: int = NUM_PROBES,
    seed: int = 0,
) -> tuple[BlockSensitivity, ...]:
    """The sensitivities of the largest network's blocks, on training images.

    Its batch norm is recalibrated before. More images or probes make the standard errors smaller.
    """
    network = Evaluator(supernet, data).subnet(supernet.space.largest)
    pixels = network.input_shape[1]
    sample = data.fitted(data.sample(num_images), pixels)
    images, labels = data.inputs(in_memory(sample).images, pixels), sample.labels
    device = next(network.parameters()).device
    batches = [
        (part.to(device), classes.to(device))
        for part, classes in zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True)
    ]
    generator = torch_generator(seed, Stream.CALIBRATION, 2)
    return measure_sensitivity(network, batches, num_probes=num_probes, generator=generator)


def measure_sensitivity(
    network: Subnet,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    num_probes: int = NUM_PROBES,
    generator: torch.Generator,
) -> tuple[BlockSensitivity, ...]:
    """The sensitivity of each block of a trained network, stem first.

    Args:
        network: Its norms are folded in a copy, since folded weights are what is quantized.
        batches: Normalised images and their labels.
        num_probes: Random signs drawn for each batch, for all weights at once; for what each block
            reads within and for its output a quarter of that, and at least two.
        generator: What draws them.

    Returns:
        One for each block, in order.
    """
    whole = copy.deepcopy(network).whole().eval()
    fold_norms(whole)
    weights = [[layer.weight for layer in _layers(block)] for block in whole.blocks]
    weight_samples, activation_samples, errors = [], [], []
    num_images = sum(len(labels) for _, labels in batches)
    for images, labels in batches:
        with _TwiceDifferentiable():
            inner, outputs = _activations(whole, images)
        loss = F.cross_entropy(outputs[-1], labels, reduction="sum") / num_images
        share = len(labels) / num_images  # of the batch, as if it were all images
        every = [tensor for block in weights for tensor in block]
        found = hutchinson(loss, [every], num_probes=num_probes, generator=generator)
        weight_samples.append(found / share)
        # blocks apart spread so much less that a few probes do
        apart = [[out] for out in outputs] + [block for block in inner if block]
        few = max(2, num_probes // 4)
        found = hutchinson(loss, apart, num_probes=few, generator=generator)
        activation_samples.append(found / share)
        tensors = [tensor for group in apart for tensor in group]
        errors.append([_activation_error(tensor.detach()) for tensor in tensors])
    of_weights, of_activations = torch.cat(weight_samples), torch.cat(activation_samples)
    mean_errors = torch.tensor(errors, dtype=torch.float64).sum(0) / num_images
    sizes = torch.tensor([tensor[0].numel() for tensor in tensors], dtype=torch.float64)
    first_weight, first_inner, blocks = 0, len(outputs), []
    for number, own in enumerate(weights):
        of_own = slice(first_weight, first_weight := first_weight + len(own))
        within = slice(first_inner, first_inner := first_inner + len(inner[number]))
        out = slice(number, number + 1)
        blocks.append(
            BlockSensitivity(
                number,
                whole.specs[number].key,
                _part(of_weights[:, of_own], *_rounded(own)),
                *(
                    _part(of_activations[:, part], sizes[part], mean_errors[part])
                    for part in (within, out)
                ),
            )
        )
    return tuple(blocks)


def _activations(whole: Subnet, images: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Of each block what its layers read that no block gave, and what it gives."""
    read: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        read.append(given[0])

    layers = [layer for block in whole.blocks for layer in _layers(block)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    inner: list[list[Tensor]] = []
    outputs: list[Tensor] = []
    for _, out in whole.steps(images):
        known = {id(tensor) for tensor in (images, *outputs)}
        new = {id(tensor): tensor for tensor in read if tensor.requires_grad}
        inner.append([tensor for name, tensor in new.items() if name not in known])
        outputs.append(out)
        read.clear()
    for hook in hooks:
        hook.remove()
    return inner, outputs


class _TwiceDifferentiable(TorchFunctionMode):
    """Writes with others the one activation whose second derivative torch lacks."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is F.hardsigmoid:
            return torch.clamp(args[0] / 6 + 0.5, 0.0, 1.0)
        return function(*args, **(kwargs or {}))


def hutchinson(
    loss: Tensor,
    groups: Sequence[Sequence[Tensor]],
    *,
    num_probes: int,
    generator: torch.Generator,
) -> Tensor:
    """Samples whose means are the traces of a loss's Hessian in each tensor, (probes, tensors).

    The tensors of a group are probed at once: what they do to one another has the mean zero, since
    their signs are independent, and adds to the spread alone.
    """
    tensors = [tensor for group in groups for tensor in group]
    found = iter(torch.autograd.grad(loss, tensors, create_graph=True))
    gradients = [[next(found) for _ in group] for group in groups]
    rows = []
    for _ in range(num_probes):
        row = []
        for group, of_group in zip(groups, gradients, strict=True):
            signs = [_signs(tensor, generator) for tensor in group]
            columns = torch.autograd.grad(
                of_group, group, signs, retain_graph=True, allow_unused=True
            )
            row += [
                torch.zeros(()) if column is None else (sign * column).sum().detach().cpu()
                for sign, column in zip(signs, columns, strict=True)
            ]
        rows.append(torch.stack(row).double())
    return torch.stack(rows)


def _signs(tensor: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(2, tensor.shape, generator=generator, dtype=torch.int8)
    return (2 * drawn - 1).to(tensor)


def _layers(block: nn.Module) -> list[nn.Conv1d | nn.Conv2d | nn.Linear]:
    """The layers whose weights int8 rounds."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    return [module for module in block.modules() if isinstance(module, kinds)]


def _part(samples: Tensor, sizes: Tensor, errors: Tensor) -> PartSensitivity:
    """Of tensors with these elements and squared rounding errors, (tensors,) each, from samples of
    their traces, (probes, tensors): each tensor's curvature with its own error.
    """
    every = float(errors.sum())
    if every == 0.0:
        return PartSensitivity(0.0, 0.0, 0.0)
    values = (samples / sizes * (errors / every)).sum(1)
    mean, count = float(values.mean()), len(values)
    spread = float(values.std()) / math.sqrt(count) if count > 1 else math.inf
    return PartSensitivity(mean, spread / abs(mean) if mean else math.inf, every)


def _rounded(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Elements and squared rounding errors of weights, (tensors,) each."""
    sizes = [float(weight.numel()) for weight in weights]
    errors = [_weight_error(weight) for weight in weights]
    return torch.tensor(sizes).double(), torch.tensor(errors, dtype=torch.float64)


def _weight_error(weight: Tensor) -> float:
    """|Q(W) - W|^2 in signed 8 bits with a scale for each output channel."""
    rows = weight.detach().flatten(1).double()
    scale = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _MOST
    return float(((rows / scale).round() * scale - rows).square().sum())


def _activation_error(values: Tensor) -> float:
    """|Q(a) - a|^2 in unsigned 8 bits over the batch's range, which holds zero."""
    least, most = values.amin().clamp(max=0.0), values.amax().clamp(min=0.0)
    scale = ((most - least) / _LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return float(((values / scale).round() * scale - values).square().sum())
