"""Writing a subnet to a directory, and reading it back as a plain module."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nassearch.errors import CheckpointError, ConfigError
from nassearch.export.export_file import ExportFile, read_export, sha256
from nassearch.files import replacing, write_text
from nassearch.networks import Subnet
from nassearch.networks.onnx_graph import to_onnx
from nassearch.space import lower

WEIGHTS, ONNX = "model.safetensors", "model.onnx"


def write_weights(subnet: Subnet, path: Path) -> None:
    """The network's tensors as safetensors."""
    tensors = {name: tensor.contiguous() for name, tensor in subnet.state_dict().items()}
    save_file(tensors, path)


def write_onnx(subnet: Subnet, path: Path) -> None:
    """The network as ONNX for one image, batch norm folded."""
    path.write_bytes(to_onnx(subnet, subnet.input_shape))


FORMATS: dict[str, tuple[str, Callable[[Subnet, Path], None]]] = {
    "weights": (WEIGHTS, write_weights),
    "onnx": (ONNX, write_onnx),
}


def check_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names` themselves; ConfigError where one is unknown."""
    for name in names:
        if name != "config" and name not in FORMATS:
            raise ConfigError(
                f"unknown export format '{name}'", fix=f"one of config, {', '.join(FORMATS)}"
            )
    return names


def write_export(
    subnet: Subnet,
    directory: Path,
    *,
    facts: ExportFile,
    formats: tuple[str, ...] = ("config", "weights", "onnx"),
) -> ExportFile:
    """Write `subnet` in the given formats and, last, the config that vouches for them."""
    hashes = {}
    for name in check_formats(formats):
        if name == "config":
            continue
        file_name, write = FORMATS[name]
        with replacing(directory / file_name) as temporary:
            write(subnet, temporary)
        hashes[file_name] = sha256(directory / file_name)
    complete = facts.model_copy(update={"files": hashes})
    write_text(directory / "README.md", _readme(complete))
    complete.save(directory)
    return complete


def load(path: str | Path) -> Subnet:
    """The exported network at `path` as a plain `nn.Module` in evaluation mode.

    Input: float32 images (n, channels, r, r), normalised with the mean and std in `config.yaml`;
    output: logits (n, classes). Raises CheckpointError where the export is damaged.
    """
    directory = Path(path)
    export = read_export(directory)
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(
            "was exported without weights", where=directory, fix="export with --format weights"
        )
    subnet = Subnet(lower(export.search_space(), export.to_architecture()))
    try:
        subnet.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError("the weights do not fit the config", where=weights) from error
    return subnet.eval()


def _readme(export: ExportFile) -> str:
    pixels = export.architecture["resolution"]
    latencies = "".join(
        f"- {item.device}, {item.runtime} {item.precision}, batch {item.batch}: "
        + (f"{item.measured_ms:.4g} ms measured, " if item.measured_ms is not None else "")
        + f"{item.predicted_ms:.4g} ms "
        + ("estimated" if item.source == "estimated" else "predicted")
        + (f", budget {item.budget_ms:.4g} ms" if item.budget_ms is not None else "")
        + "\n"
        for item in export.latency
    )
    accuracy = export.accuracy
    return f"""# Subnet {export.id}

{export.params:,} parameters, {export.macs:,} multiply-accumulates, images of {pixels} pixels.
Accuracy {accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}) on {accuracy.num_images}
images of the split '{accuracy.split}' of {export.data.spec};
`nassearch verify` measures the test split.

{latencies}
```python
import nassearch
model = nassearch.load(".")          # a plain torch.nn.Module
logits = model((images - mean) / std)  # mean and std are in config.yaml; images in 0..1
```
"""
