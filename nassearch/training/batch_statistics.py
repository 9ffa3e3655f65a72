"""What batch norms keep of the batches they have seen."""

import torch
from torch import nn

_BEFORE_ANY = {"running_mean": 0.0, "running_var": 1.0}


def forget_broken_statistics(network: nn.Module) -> None:
    """Let running statistics that are not finite begin anew.

    A batch whose activations are not finite would stay in them for ever, though its step was
    skipped.
    """
    for name, buffer in network.named_buffers():
        value = _BEFORE_ANY.get(name.rpartition(".")[2])
        if value is not None:
            buffer.masked_fill_(~torch.isfinite(buffer), value)
