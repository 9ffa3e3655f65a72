"""The weights as safetensors, and reading them back as a plain module."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nassearch.errors import CheckpointError
from nassearch.export.export_config import CONFIG, read_export
from nassearch.export.format import ExportOptions, Run
from nassearch.networks import Subnet

WEIGHTS = "model.safetensors"


class Weights:
    """`model.safetensors`, beside the config that rebuilds the network."""

    file_name = WEIGHTS
    imports = ("torch", "nassearch.export.weights")
    exact = True

    def write(self, subnet: Subnet, path: Path, order: ExportOptions) -> dict[str, Any]:
        tensors = {name: tensor.contiguous() for name, tensor in subnet.state_dict().items()}
        save_file(tensors, path)
        return {"tensors": len(tensors)}

    def open(self, path: Path) -> Run:
        return load(path.parent)

    def snippet(self) -> tuple[str, str, str]:
        return ("import nassearch", 'network = nassearch.load(".")', "logits = network(images)")


def load(path: str | Path) -> Subnet:
    """The exported network at `path` as a plain `nn.Module` in evaluation mode.

    Input: float32 images (n, channels, r, r), normalised with the mean and std in `config.yaml`;
    output: logits (n, classes). Raises CheckpointError where the export is damaged.
    """
    directory = Path(path)
    read_export(directory)
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(
            "was exported without weights", where=directory, fix="export with --format weights"
        )
    subnet = Subnet.from_config(directory / CONFIG)
    try:
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
