"""Random crop and flip of a whole batch in one gather, on uint8."""

import torch
from torch import Tensor


def draw_crops(
    count: int, *, padding: int, flip: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A shift in pixels, int64 (count, 2), and whether it is mirrored, bool (count,), per image.

    Shifts are uniform, up to `padding` pixels in both directions. The generator is a CPU generator.
    """
    shift = torch.randint(-padding, padding + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    return shift.T, mirrored


def crop_and_flip(images: Tensor, shift: Tensor, mirrored: Tensor) -> Tensor:
    """Images, (n, c, h, w), each shifted and mirrored as `draw_crops` drew it.

    What enters at an edge is the reflection of the image, as after padding by reflection.
    """
    count, _, height, width = images.shape
    rows = _reflect(torch.arange(height) + shift[:, :1], height)
    columns = _reflect(torch.arange(width) + shift[:, 1:], width)
    columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
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
