"""Precision by block: where a policy's choices stand behind the genes of a space's layout.

A policy is one precision for each block that an architecture lowers to, stem first, head last. It
says how a network is deployed, never what is trained, so it is no part of a space's fingerprint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nassearch.errors import ArchitectureError
from nassearch.space.layout import Gene, Genes, Layout

Policy = tuple[str, ...]


@dataclass(frozen=True)
class PrecisionLayout:
    """A gene for the precision of each place where a block can stand, in the order of the walk.

    `precisions` are those to choose among, the lowest first.
    """

    layout: Layout
    precisions: tuple[str, ...]
    has_stem: bool
    has_head: bool

    @cached_property
    def _places(self) -> tuple[tuple[str, int | None, int], ...]:
        """Name, stage (None where a block always stands) and number of each place."""
        inner: list[tuple[str, int | None, int]] = [
            (f"stages[{index}].blocks[{number}]", index, number)
            for index, stage in enumerate(self.layout.stages)
            for number in range(len(stage.positions))
        ]
        stem: list[tuple[str, int | None, int]] = [("stem", None, 0)] if self.has_stem else []
        return (*stem, *inner, *([("head", None, 0)] if self.has_head else []))

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        return tuple(Gene(f"{name}.precision", self.precisions) for name, _, _ in self._places)

    @property
    def columns(self) -> slice:
        """Where its genes stand in a gene vector."""
        first = len(self.layout.genes)
        return slice(first, first + len(self._places))

    def present(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Whether a block stands at each place, (n, places), of gene vectors, (n, genes)."""
        there = np.ones((len(genes), len(self._places)), dtype=bool)
        for column, (_, stage, number) in enumerate(self._places):
            if stage is None:
                continue
            depth = self.layout.stages[stage].depth
            if depth.gene is None:
                there[:, column] = depth.choices[0] > number
            else:
                there[:, column] = np.asarray(depth.choices)[genes[:, depth.gene]] > number
        return there

    def canonical(self, genes: Genes) -> None:
        """Set the genes of places without a block to 0, in place."""
        genes[:, self.columns] *= self.present(genes)

    def decode(self, genes: Sequence[int]) -> Policy:
        """The policy of one gene vector."""
        return self.decode_many(np.asarray([genes], dtype=np.uint8))[0]

    def decode_many(self, genes: Genes) -> list[Policy]:
        """The policies of gene vectors, (n, genes)."""
        names = np.asarray(self.precisions, dtype=object)[genes[:, self.columns]]
        there = self.present(genes)
        return [tuple(row[mask]) for row, mask in zip(names, there, strict=True)]

    def encode(self, policy: Policy | None, depths: Sequence[int], *, where: object) -> list[int]:
        """The genes of a policy for stages of so many blocks; ArchitectureError if it has others.

        Where an architecture has no policy all its blocks are of the highest precision.
        """
        there = [stage is None or number < depths[stage] for _, stage, number in self._places]
        if policy is None:
            policy = (self.precisions[-1],) * sum(there)
        check_policy(policy, sum(there), where=where)
        unknown = next((name for name in policy if name not in self.precisions), None)
        if unknown is not None:
            raise ArchitectureError(
                f"the precision {unknown} is none of those that are mixed",
                where=where,
                fix=f"allowed: {', '.join(self.precisions)}",
            )
        chosen = iter(policy)
        return [self.precisions.index(next(chosen)) if stands else 0 for stands in there]


def check_policy(policy: Policy, num_blocks: int, *, where: object) -> None:
    """ArchitectureError where a policy is not one of `num_blocks` blocks."""
    if len(policy) != num_blocks:
        raise ArchitectureError(
            f"has precisions for {len(policy)} blocks, the architecture has {num_blocks}: a policy"
            " for another architecture",
            where=where,
            fix="give one for each block, stem first, head last",
        )
