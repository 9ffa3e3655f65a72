"""Files of tensors from strangers: read as tensors alone, nothing in them is run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nassearch.errors import CheckpointError
from nassearch.files import SCRAMBLED, compressed_entry

_STATE = "state_dict"
_WRAPPED = "module."  # before every key of a network that was trained on several GPUs
_DOWNLOAD = "download the file again and compare its size with the source's"
# what torch raises where a file is cut short, or is something else altogether
_CODE = re.compile(r"(?:GLOBAL|global|class|operand) ([\w.]+)")


@dataclass(frozen=True)
class TensorFile:
    """Tensors by the file's own names; `beside` names what else it holds (an epoch, an optimizer).

    `metadata` is of .safetensors: texts by name.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    beside: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_tensors(path: Path) -> TensorFile:
    """The tensors of a .safetensors file, or of a state dict as torch saves it.

    Also of a mapping that holds one as `state_dict`. Raises CheckpointError where the file is
    missing, cut short, holds no tensors, or would have to run code to be read.
    """
    if not path.is_file():
        raise CheckpointError("there is no such file", where=path, fix="name the checkpoint's file")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    content = _unpickled(path)
    beside: tuple[str, ...] = ()
    if isinstance(content, Mapping) and isinstance(content.get(_STATE), Mapping):
        beside = tuple(str(key) for key in content if key != _STATE)
        content = content[_STATE]
    if not isinstance(content, Mapping) or not any(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise CheckpointError(
            "holds no state dict of tensors",
            where=path,
            fix="save network.state_dict(), or {'state_dict': network.state_dict()}",
        )
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    beside += tuple(str(key) for key, value in content.items() if not isinstance(value, Tensor))
    return TensorFile(path, _unwrapped(tensors), beside)


def _read_safetensors(path: Path) -> TensorFile:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"is cut short or no safetensors file ({_first_line(error)})",
            where=path,
            fix=_DOWNLOAD,
        ) from error
    return TensorFile(path, _unwrapped(tensors), metadata=metadata)


def _unpickled(path: Path) -> object:
    try:
        if is_zipfile(path):
            with ZipFile(path) as archive:
                packed = compressed_entry(archive)
            if packed is not None:
                raise CheckpointError(
                    f"holds the compressed file '{packed}'",
                    where=path,
                    fix="load it with torch and save its state dict as .safetensors",
                )
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = _CODE.search(str(error).partition("arbitrary code execution")[2])
        if found is None:
            raise _damaged(path, error) from error
        raise CheckpointError(
            f"is refused: to read it, '{found[1]}' would have to be run, which may do anything",
            where=path,
            fix="if you trust its author, load it with torch elsewhere and save its state dict"
            " as .safetensors",
        ) from error
    except SCRAMBLED as error:
        raise _damaged(path, error) from error
    return content


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = _first_line(error)
    return CheckpointError(
        f"is cut short, or no file that torch saved ({reason})", where=path, fix=_DOWNLOAD
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0][:120]


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    wrapped = all(name.startswith(_WRAPPED) for name in tensors)
    return {name.removeprefix(_WRAPPED) if wrapped else name: t for name, t in tensors.items()}
