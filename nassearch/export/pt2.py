"""`torch.export`: the network as a program that torch alone loads."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from nassearch.errors import CheckpointError, ExportError
from nassearch.export.format import ExportOptions, Run, in_batches
from nassearch.networks import Subnet


class TorchExport:
    """`model.pt2`."""

    file_name = "model.pt2"
    imports = ("torch",)
    exact = True

    def write(self, subnet: Subnet, path: Path, order: ExportOptions) -> dict[str, Any]:
        batch = order.fixed_batch
        # with one image torch.export would fix the batch at one, whatever is said of it
        images = torch.zeros(batch or 2, *subnet.input_shape)
        dynamic = None if batch is not None else {"images": {0: torch.export.Dim("batch", min=1)}}
        try:
            program = torch.export.export(subnet.eval(), (images,), dynamic_shapes=dynamic)
        except (RuntimeError, ValueError) as error:  # what torch.export raises derives from these
            raise ExportError(f"torch.export refuses it ({str(error).splitlines()[0]})") from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # the source files' places on this machine
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        path.write_bytes(buffer.getvalue())
        return {"torch": torch.__version__, "batch": order.batch}

    def open(self, path: Path) -> Run:
        _refuse_objects(path)
        with _tensors_alone():
            try:
                program = torch.export.load(path)
            except (RuntimeError, ValueError, KeyError, UnpicklingError, BadZipFile) as error:
                raise CheckpointError(
                    "torch cannot load it as a program of tensors alone", where=path
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


# constants that torch would unpickle, whatever they do
_OBJECTS = ('"path_name": "custom_obj_', '"path_name": "opaque_obj_')


def _refuse_objects(path: Path) -> None:
    """CheckpointError where an archive holds more than tensors and graphs."""
    try:
        with ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            told = [json.dumps(json.loads(archive.read(name))) for name in names]
    except (BadZipFile, ValueError) as error:
        raise CheckpointError("is no archive of torch.export", where=path) from error
    if any(name in text for text in told for name in _OBJECTS):
        raise CheckpointError("holds Python objects, which are not loaded", where=path)


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
