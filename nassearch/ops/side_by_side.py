"""Convolutions that train on very small images in bfloat16: several images make one wide image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PIXELS = 5  # of an output that is small: up to these it was faster (experiments/training-speed)
_IMAGES = 16  # in a row, at most


def convolve(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """The output of `conv` for images (n, c, h, w), computed in the way that trains faster.

    On CPUs the gradient of a weight in bfloat16 takes as long for rows of 4 pixels as for rows of
    32 (oneDNN multiplies tiles of that length). Small images are therefore laid side by side,
    with columns of zeros between them that stand for the padding of each.
    """
    if _is_training_in_bfloat16(images) and _gains(conv, images):
        # asked here alone: an exported graph must not hang on the number of its example's images
        number = next(count for count in range(_IMAGES, 0, -1) if len(images) % count == 0)
        if number > 1:
            return side_by_side(conv, images, number)
    out: Tensor = conv(images)
    return out


def side_by_side(conv: nn.Conv2d, images: Tensor, number: int) -> Tensor:
    """`conv(images)` by way of wide images, each made of `number` images and zeros between them.

    The number divides that of the images; the padding is half of the kernel.
    """
    count, channels, height, width = images.shape
    stride, padding = conv.stride[1], conv.kernel_size[1] // 2
    between = padding + -(width + padding) % stride
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, 0, between))
    rows = padded.view(-1, number, height, width + between, channels).transpose(1, 2)
    wide = conv(rows.reshape(len(rows), height, -1, channels).permute(0, 3, 1, 2))
    parts = wide.permute(0, 2, 3, 1).unflatten(2, (number, -1))
    parts = parts[:, :, :, : -(-width // stride)].transpose(1, 2)
    return parts.reshape(count, *parts.shape[2:]).permute(0, 3, 1, 2)


def _is_training_in_bfloat16(images: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and images.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _gains(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether these are rows of a few pixels, convolved by a kernel that sees several of them."""
    out_pixels = -(-images.shape[-1] // conv.stride[1])
    return conv.groups == 1 and conv.kernel_size[1] > 1 and out_pixels <= _PIXELS
