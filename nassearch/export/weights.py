"""The weights as safetensors, and reading them back as a plain module."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError
from nassearch.export.export_config import CONFIG, inside, read_export
from nassearch.export.format import FormatOptions, Run
from nassearch.networks import Subnet
from nassearch.networks.cost import check_memory
from nassearch.progress import Progress

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Weights:
    """`model.safetensors`, beside the config that rebuilds the network."""

    options: FormatOptions = field(default_factory=FormatOptions)
    title: ClassVar[str] = "PyTorch"
    file_name: ClassVar[str] = WEIGHTS
    imports: ClassVar[tuple[str, ...]] = ("torch", "nassearch.export.weights")
    exact: ClassVar[bool] = True

    def write(
        self, subnet: Subnet, path: Path, *, data: Data, progress: Progress
    ) -> dict[str, object]:
        tensors = {name: tensor.contiguous() for name, tensor in subnet.state_dict().items()}
        save_file(tensors, path)
        return {"tensors": len(tensors)}

    def open(self, path: Path) -> Run:
        return load(path.parent)

    def snippet(self) -> tuple[str, str, str]:
        return ("import nassearch", 'network = nassearch.load(".")', "logits = network(images)")


def load(path: str | Path) -> Subnet:
    """Open an exported network.

    Args:
        path: A directory that `nassearch export` wrote, with the format `weights`.

    Returns:
        A plain `nn.Module` in evaluation mode. Input: float32 images (n, channels, r, r),
        normalised with the mean and std in `config.yaml`; output: logits (n, classes).

    Raises:
        CheckpointError: The export is damaged, or has no weights.

    Examples:
        >>> import nassearch as ns
        >>> [export, *_] = ns.export_subnets("runs/latest", out="exports")
        >>> ns.load(export.directory).input_shape
        (1, 8, 8)
    """
    directory = Path(path)
    read_export(directory)
    if not (directory / WEIGHTS).is_file():
        raise CheckpointError(
            "was exported without weights", where=directory, fix="export with --format weights"
        )
    return build(directory)


def build(directory: Path) -> Subnet:
    """The network of an export in evaluation mode: with its weights, or untrained without them.

    Nothing is allocated before the weights are known to be those of the network, so that it takes
    no more memory than its file.
    """
    weights = inside(directory, WEIGHTS)
    with torch.device("meta"):
        subnet = Subnet.from_config(directory / CONFIG)
    if not weights.is_file():
        check_memory(subnet, where=directory)
        return Subnet(subnet.specs, precisions=subnet.precisions).eval()
    try:
        with safe_open(weights, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        expected = {name: tuple(tensor.shape) for name, tensor in subnet.state_dict().items()}
        misfits = [
            name for name in {**expected, **shapes} if shapes.get(name) != expected.get(name)
        ]
        if misfits:
            raise SafetensorError(
                f"{misfits[0]}: {shapes.get(misfits[0])} in the file,"
                f" {expected.get(misfits[0])} in the network"
            )
        subnet = Subnet(subnet.specs, precisions=subnet.precisions)
        subnet.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights do not fit the config ({_misfit(error)})",
            where=weights,
            fix="export the network again",
        ) from error
    return subnet.eval()


def _misfit(error: Exception) -> str:
    """The first thing that does not fit, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[1] if len(lines) > 1 else lines[0]
    return first.rstrip(". ").partition("., ")[0][:160]
