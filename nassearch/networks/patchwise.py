"""Blocks that are run patch by patch: less is held at once, and the same is computed."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from nassearch.ops import StaticOp
from nassearch.space import BlockSpec
from nassearch.space.patching import cuts


class Patchwise(nn.Sequential):
    """Blocks in a row; the first, whose specs have a grid, run on one tile after the other.

    In training they all run on the whole image: batch norm wants the statistics of all of it.
    """

    def __init__(self, specs: Sequence[BlockSpec], blocks: Sequence[StaticOp]) -> None:
        super().__init__(*blocks)
        patched = [spec for spec in specs if spec.grid > 1]
        self._size = patched[0].tile
        self._cuts = cuts(patched)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            whole: Tensor = super().forward(images)
            return whole
        *_, (_, out) = self.steps(images)
        return out

    def steps(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(number of a block, what it gave) for each run of a block, in order."""
        rows = []
        for row in self._cuts:
            tiles = []
            for column in self._cuts:
                down, across = (slice(cut.first, cut.first + self._size) for cut in (row, column))
                tile = images[:, :, down, across]
                for number, kept in enumerate(zip(row.kept, column.kept, strict=True)):
                    out: Tensor = self[number](tile)
                    yield number, out
                    tile = out[:, :, slice(*kept[0]), slice(*kept[1])]
                tiles.append(tile)
            rows.append(torch.cat(tiles, 3))
        out = torch.cat(rows, 2)
        for number in range(len(self._cuts[0].kept), len(self)):
            out = self[number](out)
            yield number, out
