"""`torch.export`: the network as a program that torch alone loads."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch

from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError, ExportError
from nassearch.export.format import GraphOptions, Run, in_batches
from nassearch.export.pt2_archive import check_archive
from nassearch.files import SCRAMBLED
from nassearch.networks import Subnet
from nassearch.progress import Progress


@dataclass(frozen=True)
class TorchExport:
    """`model.pt2`."""

    options: GraphOptions = field(default_factory=GraphOptions)
    title: ClassVar[str] = "PyTorch, as a program"
    file_name: ClassVar[str] = "model.pt2"
    imports: ClassVar[tuple[str, ...]] = ("torch",)
    exact: ClassVar[bool] = True

    def write(
        self, subnet: Subnet, path: Path, *, data: Data, progress: Progress
    ) -> dict[str, object]:
        batch = self.options.fixed_batch
        # with one image torch.export would fix the batch at one, whatever is said of it
        images = torch.zeros(batch or 2, *subnet.input_shape)
        dynamic = None if batch is not None else {"images": {0: torch.export.Dim("batch", min=1)}}
        try:
            program = torch.export.export(subnet.eval(), (images,), dynamic_shapes=dynamic)
        except (RuntimeError, ValueError) as error:  # what torch.export raises derives from these
            raise ExportError(
                f"torch.export refuses it ({str(error).splitlines()[0]})",
                where="format pt2",
                fix="export without pt2, or write the space's own op without branches on values",
            ) from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # the source files' places on this machine
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        path.write_bytes(buffer.getvalue())
        return {"torch": torch.__version__, "batch": self.options.batch}

    def open(self, path: Path) -> Run:
        check_archive(path)
        with _tensors_alone():
            try:
                program = torch.export.load(path)
            except SCRAMBLED as error:
                raise CheckpointError(
                    "torch cannot load it as a program of tensors alone",
                    where=path,
                    fix="export the network again with this version of torch",
                ) from error
        images = next(node for node in program.graph.nodes if node.name == "images")
        size = images.meta["val"].shape[0]
        module = program.module()
        return in_batches(lambda batch: module(batch), size if isinstance(size, int) else None)

    def snippet(self) -> tuple[str, str, str]:
        return (
            "import torch",
            f'network = torch.export.load("{self.file_name}").module()',
            "logits = network(images)",
        )


@contextmanager
def _tensors_alone() -> Iterator[None]:
    """Within the block torch.load takes tensors alone; torch.export.load would try more."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
