"""Random crop and flip of a whole batch in one gather, on uint8."""

import torch
from torch import Tensor


def crop_and_flip(
    images: Tensor, *, padding: int, flip: bool, generator: torch.Generator
) -> Tensor:
    """Images, (n, c, h, w), each shifted by up to `padding` pixels and, by half, mirrored.

    Each image has its own shift, uniform in both directions; what enters at an edge is the
    reflection of the image, as after padding by reflection. The generator is a CPU generator.
    """
    count, _, height, width = images.shape
    shift = torch.randint(-padding, padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5 if flip else torch.zeros(count, 1)
    rows = _reflect(torch.arange(height) + shift[0], height)
    columns = _reflect(torch.arange(width) + shift[1], width)
    columns = torch.where(mirrored.bool(), columns.flip(1), columns)
    image = torch.arange(count).view(-1, 1, 1)
    device = images.device
    picked = images.permute(0, 2, 3, 1)[
        image.to(device), rows.unsqueeze(2).to(device), columns.unsqueeze(1).to(device)
    ]
    return picked.permute(0, 3, 1, 2)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices outside 0..size-1 mirrored at the edge pixels: -1 -> 1, size -> size - 2."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)
