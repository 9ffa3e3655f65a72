"""The precision that trains a space fastest on this machine, measured in a few steps."""

import copy
import statistics
import time

import torch

from nassearch.networks import Supernet
from nassearch.networks.wiring import named

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STEPS = 3


def autocast(device: torch.device, precision: str) -> torch.autocast:
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def step_seconds(supernet: Supernet, precision: str, *, batch_size: int) -> float:
    """Seconds of a forward and a backward pass of the largest and the smallest network."""
    measured = copy.deepcopy(supernet).train()
    space = supernet.space
    device = next(supernet.parameters()).device
    pixels = space.largest.resolution
    images = torch.zeros(batch_size, space.in_channels, pixels, pixels, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(1 + _STEPS):
        began = time.perf_counter()
        for architecture in (space.largest, space.smallest):
            with autocast(device, precision):
                given = named(measured(images, architecture))
            torch.stack(
                [tensor.float().square().mean() for tensor in given.values()]
            ).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
