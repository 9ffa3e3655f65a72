"""What a block holds at once: operators one after the other, everything until its last reader."""

import torch
from torch import Tensor, nn

from nassearch.networks.activation_memory import peak, peak_elements
from nassearch.space import BlockSpec

IMAGE = 8 * 4 * 4


class Residual(nn.Module):
    """A narrow middle; the input is added at the end, projected or as it is."""

    def __init__(self, middle: int, *, projected: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, middle, 1)
        self.second = nn.Conv2d(middle, 8, 1)
        self.shortcut = nn.Conv2d(8, 8, 1) if projected else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(images))) + self.shortcut(images))


def test_a_sum_is_written_where_the_input_lies() -> None:
    image = torch.zeros(1, 8, 4, 4)
    # the input and the middle; the second convolution adds into the input
    assert peak(Residual(8, projected=False), image) == 2 * IMAGE


def test_a_projected_shortcut_holds_the_input_to_the_end() -> None:
    image = torch.zeros(1, 8, 4, 4)
    # the input, the middle and what the second convolution gives, while the shortcut waits
    assert peak(Residual(8, projected=True), image) == 3 * IMAGE


def test_everything_that_is_joined_is_held_with_what_it_becomes() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(8, 8, 1) for _ in range(3)])

        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([conv(images) for conv in self.convs], dim=1)

    # three parts and the whole; the image is no longer needed then
    assert peak(Joined(), torch.zeros(1, 8, 4, 4)) == 6 * IMAGE


def test_activations_work_in_place_and_parameters_do_not_count() -> None:
    chain = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish())
    assert peak(chain, torch.zeros(1, 8, 4, 4)) == 2 * IMAGE


def test_a_block_is_counted_from_its_spec() -> None:
    spec = BlockSpec("basic", 8, 16, 4, 1, (("kernel_size", 3), ("activation", "relu")))
    # the input, the middle and the output of sixteen channels, while the shortcut waits
    assert peak_elements(spec) == IMAGE + 2 * 2 * IMAGE
