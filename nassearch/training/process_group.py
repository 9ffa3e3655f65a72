"""The workers of a data-parallel training: who this one is, and what they do together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This worker's number and how many there are; alone, everything below is free."""

    rank: int = 0
    size: int = 1
    stop: Path | None = None
    """A file whose appearance asks all to save and stop."""

    @classmethod
    def joined(cls, *, stop: Path | None = None) -> "ProcessGroup":
        """The group of the process group that was initialised before."""
        return cls(dist.get_rank(), dist.get_world_size(), stop)

    @property
    def leads(self) -> bool:
        """Whether this worker writes files, evaluates and reports."""
        return self.rank == 0

    @property
    def asked_to_stop(self) -> bool:
        """Whether this worker, the leading one, was asked; the others learn it in `average`."""
        return self.leads and self.stop is not None and self.stop.exists()

    def average(self, tensors: Sequence[Tensor], scalars: Sequence[float]) -> list[float]:
        """Average the tensors over the workers in place, and return the averaged scalars.

        All in one all-reduce: every worker holds tensors of the same shapes in the same order.
        """
        if self.size == 1:
            return list(scalars)
        numbers = torch.tensor(scalars, dtype=torch.float32, device=tensors[0].device)
        flat = torch.cat([*(tensor.reshape(-1).float() for tensor in tensors), numbers])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([*(tensor.numel() for tensor in tensors), len(scalars)])
        for tensor, part in zip(tensors, parts, strict=False):
            tensor.copy_(part.view_as(tensor))
        averaged: list[float] = parts[-1].tolist()
        return averaged
