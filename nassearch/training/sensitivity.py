"""How much the loss minds the quantization of each block: HAWQ's order, before any is quantized.

After HAWQ-V2 (Dong et al., NeurIPS 2020). Where a network is trained, the gradient is small, and
rounding its weights by d changes the loss by d' H d / 2 (Taylor, their equation 2 and lemma 1). For
rounding errors that have nothing to do with the curvature that is, in the mean, the average
eigenvalue of H times |d|^2 / 2: their measure for a block is Tr(H) / n |Q(W) - W|^2 (section 3.1),
and with the block's output in place of its weights for activations (section 3.3). The trace is
never formed: v' H v has it as its mean for v of independent signs (Hutchinson, 1989; their
algorithm 2), and H v is the gradient of g' v.
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
    """Of a block's weights, or of its output.

    `mean_eigenvalue` is Tr(H) / n, `relative_error` its standard error as a share of it, and
    `squared_error` what int8 adds: |Q(x) - x|^2, of an output the mean of an image.
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
    output: PartSensitivity

    @property
    def loss_increase(self) -> float:
        """In nats, of weights and output together: blocks go to int8 from the least on."""
        return self.weights.loss_increase + self.output.loss_increase


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
        num_probes: Random signs drawn for each batch, for all weights at once; for each block's
            output a quarter of that, and at least two.
        generator: What draws them.

    Returns:
        One for each block, in order.
    """
    whole = copy.deepcopy(network).whole().eval()
    fold_norms(whole)
    weights = [_layer_weights(block) for block in whole.blocks]
    weight_samples: list[Tensor] = []
    output_samples: list[Tensor] = []
    errors = torch.zeros(len(weights), dtype=torch.float64)
    sizes: list[int] = []
    num_images = sum(len(labels) for _, labels in batches)
    for images, labels in batches:
        with _TwiceDifferentiable():
            outputs = [out for _, out in whole.steps(images)]
        loss = F.cross_entropy(outputs[-1], labels, reduction="sum") / num_images
        inner = [tensor for block in weights for tensor in block]
        share = len(labels) / num_images  # of the batch, as if it were all images
        found = hutchinson(loss, [inner], num_probes=num_probes, generator=generator)
        weight_samples.append(found / share)
        # blocks apart spread so much less that a few probes do
        found = hutchinson(
            loss,
            [[out] for out in outputs],
            num_probes=max(2, num_probes // 4),
            generator=generator,
        )
        output_samples.append(found / share)
        errors += torch.stack([_output_error(out.detach()) for out in outputs]).double().cpu()
        sizes = [out[0].numel() for out in outputs]
    of_weights, of_outputs = torch.cat(weight_samples), torch.cat(output_samples)
    blocks, first = [], 0
    for number, tensors in enumerate(weights):
        own = slice(first, first + len(tensors))
        first = own.stop
        blocks.append(
            BlockSensitivity(
                number,
                whole.specs[number].key,
                _weight_part(of_weights[:, own], tensors),
                _part(of_outputs[:, number], sizes[number], float(errors[number]) / num_images),
            )
        )
    return tuple(blocks)


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


def _layer_weights(block: nn.Module) -> list[Tensor]:
    """The weights that int8 rounds."""
    layers = (nn.Conv1d, nn.Conv2d, nn.Linear)
    return [module.weight for module in block.modules() if isinstance(module, layers)]


def _weight_part(samples: Tensor, tensors: Sequence[Tensor]) -> PartSensitivity:
    """Of all weights of a block: each tensor's curvature with its own rounding error.

    A block's `mean_eigenvalue` is the mean over its tensors, weighted by their errors.
    """
    errors = torch.tensor([_weight_error(tensor) for tensor in tensors], dtype=torch.float64)
    if not len(tensors) or float(errors.sum()) == 0.0:
        return PartSensitivity(0.0, 0.0, float(errors.sum()))
    sizes = torch.tensor([tensor.numel() for tensor in tensors], dtype=torch.float64)
    weighted = (samples / sizes * (errors / errors.sum())).sum(1)
    return _part(weighted, 1, float(errors.sum()))


def _part(samples: Tensor, size: int, squared_error: float) -> PartSensitivity:
    mean = float(samples.mean()) / size
    spread = float(samples.std()) / size / math.sqrt(len(samples)) if len(samples) > 1 else math.inf
    relative = spread / abs(mean) if mean else math.inf
    return PartSensitivity(mean, relative, squared_error)


def _weight_error(weight: Tensor) -> float:
    """|Q(W) - W|^2 in signed 8 bits with a scale for each output channel."""
    rows = weight.detach().flatten(1).double()
    scale = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _MOST
    return float(((rows / scale).round() * scale - rows).square().sum())


def _output_error(values: Tensor) -> Tensor:
    """|Q(a) - a|^2 in unsigned 8 bits over the batch's range, which holds zero."""
    least, most = values.amin().clamp(max=0.0), values.amax().clamp(min=0.0)
    scale = ((most - least) / _LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return ((values / scale).round() * scale - values).square().sum()
