"""Batch norms folded into the layers before them, as exported graphs have them."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nassearch.errors import ExportError
from nassearch.networks.subnet import Subnet

Layer = nn.Conv2d
Norm = nn.BatchNorm2d
_TOLERANCE = 1e-3


@torch.no_grad()
def fold_norms(network: Subnet) -> dict[str, str]:
    """Move each batch norm with weights that reads a convolution alone into that, in place.

    The network computes what it did, in evaluation mode: the convolution has the folded weights and
    the norm is left with a shift, which is the folded bias. So it keeps its tensors, and every
    format their names.

    Returns:
        The name of each such convolution, and that of its norm.

    Raises:
        ExportError: What a convolution gives is read by its norm and by something else, too.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *network.input_shape, generator=generator)
    image = image.to(next(network.parameters()).device)
    was_training, before_folding = network.training, network.eval()(image)
    modules = dict(network.named_modules())
    pairs = _pairs(network, image)
    for name, norm_name in pairs.items():
        layer, norm = modules[name], modules[norm_name]
        assert isinstance(layer, Layer) and isinstance(norm, Norm)
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        before = 0.0 if layer.bias is None else layer.bias
        bias = norm.bias + (before - mean) * scale
        layer.weight.mul_(scale.reshape(-1, 1, 1, 1))
        if layer.bias is not None:
            layer.bias.zero_()
        variance.fill_(1.0 - norm.eps)
        mean.zero_()
        norm.weight.fill_(1.0)
        norm.bias.copy_(bias)
    scale_of_logits = before_folding.abs().max().clamp(min=1.0)
    difference = (network(image) - before_folding).abs().max() / scale_of_logits
    network.train(was_training)
    if not difference < _TOLERANCE:
        raise ExportError(
            "a batch norm cannot be folded into its convolution, which something else reads too",
            where="quantized training",
            fix="put the norm before what it shares the convolution with",
        )
    return pairs


def _pairs(network: Subnet, image: Tensor) -> dict[str, str]:
    """Which norm reads which convolution, found by running an image."""
    given: dict[int, str] = {}
    reads: dict[str, list[str]] = {}
    kept: list[Tensor] = []  # so that no two tensors have one identity
    handles: list[RemovableHandle] = []

    def after(name: str) -> None:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(output)
            given[id(output)] = name

        handles.append(modules[name].register_forward_hook(hook))

    def before(name: str) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            layer = given.get(id(inputs[0]))
            if layer is not None:
                reads.setdefault(layer, []).append(name)

        handles.append(modules[name].register_forward_pre_hook(hook))

    modules = dict(network.named_modules())
    for name, module in modules.items():
        if isinstance(module, Layer):
            after(name)
        elif isinstance(module, Norm) and module.affine:
            before(name)
    network(image)
    for handle in handles:
        handle.remove()
    return {layer: norms[0] for layer, norms in reads.items() if len(set(norms)) == 1}
