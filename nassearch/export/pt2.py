"""`torch.export`: the network as a program that torch alone loads."""

import io
from pathlib import Path
from typing import Any

import torch

from nassearch.errors import ExportError
from nassearch.export.format import Order, Run, in_batches
from nassearch.networks import Subnet


class TorchExport:
    """`model.pt2`."""

    file_name = "model.pt2"
    imports = ("torch",)
    exact = True

    def write(self, subnet: Subnet, path: Path, order: Order) -> dict[str, Any]:
        batch = order.fixed_batch
        # with one image torch.export would fix the batch at one, whatever is said of it
        images = torch.zeros(batch or 2, *subnet.input_shape)
        dynamic = None if batch is not None else {"images": {0: torch.export.Dim("batch", min=1)}}
        try:
            program = torch.export.export(subnet.eval(), (images,), dynamic_shapes=dynamic)
        except (RuntimeError, ValueError) as error:  # what torch.export raises derives from these
            raise ExportError(f"torch.export refuses it ({str(error).splitlines()[0]})") from error
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        path.write_bytes(buffer.getvalue())
        return {"torch": torch.__version__, "batch": order.batch}

    def open(self, path: Path) -> Run:
        program = torch.export.load(path)
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
