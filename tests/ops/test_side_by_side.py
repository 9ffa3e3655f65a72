"""Small images laid side by side are convolved as each alone, and trained as each alone."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from nassearch.ops import side_by_side
from nassearch.ops.layer import ConvNorm


@pytest.mark.parametrize(
    ("kernel_size", "stride", "pixels"), list(itertools.product((3, 5, 7), (1, 2, 3), (3, 4, 7)))
)
def test_output_and_gradients_are_those_of_images_alone(
    kernel_size: int, stride: int, pixels: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    conv.double()
    images = torch.randn(12, 3, pixels, pixels + 1, dtype=torch.float64, requires_grad=True)
    alone = conv(images)
    together = side_by_side.side_by_side(conv, images, 4)
    torch.testing.assert_close(together, alone)
    weights = torch.randn_like(alone)
    for own, other in zip(
        torch.autograd.grad((together * weights).sum(), (images, conv.weight)),
        torch.autograd.grad((alone * weights).sum(), (images, conv.weight)),
        strict=True,
    ):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize(
    ("pixels", "count", "dtype", "laid"),
    [
        (4, 32, torch.bfloat16, True),
        (4, 31, torch.bfloat16, False),  # no number of images divides a prime
        (8, 32, torch.bfloat16, False),
        (4, 32, torch.float32, False),
    ],
)
def test_only_small_images_in_bfloat16_are_laid_side_by_side(
    pixels: int, count: int, dtype: torch.dtype, laid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    lay = side_by_side.side_by_side

    def seen(conv: nn.Conv2d, images: Tensor, number: int) -> Tensor:
        calls.append(number)
        return lay(conv, images, number)

    monkeypatch.setattr(side_by_side, "side_by_side", seen)
    layer, images = ConvNorm(3, 5, kernel_size=3), torch.randn(count, 3, pixels, pixels)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        layer(images)
        with torch.no_grad():
            layer(images)
    assert calls == ([16] if laid else [])


def test_an_exported_graph_takes_any_number_of_images() -> None:
    layer = ConvNorm(3, 5, kernel_size=3).eval()
    program = torch.export.export(
        layer, (torch.randn(2, 3, 4, 4),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    images = torch.randn(7, 3, 4, 4)
    torch.testing.assert_close(program.module()(images), layer(images))
