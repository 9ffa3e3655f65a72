"""What a format is: one way to write a network down, and to run it from there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from nassearch.config import resolve
from nassearch.data.dataset import Data
from nassearch.errors import ConfigError
from nassearch.export import FORMATS
from nassearch.networks import Subnet

CONFIG_ONLY = "config"
DEFAULT = (CONFIG_ONLY, "weights", "onnx")
Batch = int | Literal["dynamic"]
Progress = Callable[[str, float], None]
Run = Callable[[Tensor], Tensor]
"""A network as its format runs it: any number of normalised images, (n, c, r, r), to logits."""


@dataclass(frozen=True)
class ExportOptions:
    """How a network is to be written.

    Graphs take `batch` images at once, or any number. `int8` calibrates on training images of
    `data` and may lose so much accuracy on its validation images: 0.01 is one point.
    """

    data: Data
    batch: Batch = 1
    max_accuracy_loss: float = 0.01
    progress: Progress = lambda stage, fraction: None

    @property
    def fixed_batch(self) -> int | None:
        """None where the number of images is left open."""
        return None if self.batch == "dynamic" else self.batch


class Format(Protocol):
    """Made without arguments."""

    file_name: str
    imports: tuple[str, ...]
    """The modules that running it takes."""
    exact: bool
    """Whether its logits are those of the network; an int8 network's are near them."""

    def write(self, subnet: Subnet, path: Path, order: ExportOptions) -> dict[str, Any]:
        """Write the file at `path`; what is worth knowing about it, for the config."""
        ...

    def open(self, path: Path) -> Run:
        """The network in the file at `path`, inside an export."""
        ...

    def snippet(self) -> tuple[str, str, str]:
        """Import, load and run `images`, three lines of Python for the model card."""
        ...


def make_format(name: str) -> Format:
    """The format called `name`; ConfigError where there is none."""
    found: type[Format] = resolve(FORMATS, name, kind="export format")
    return found()


def make_formats(names: Iterable[str]) -> dict[str, Format]:
    """The formats called `names`, without `config`, which is always written."""
    return {name: make_format(name) for name in names if name != CONFIG_ONLY}


def parse_batch(text: str) -> Batch:
    """'8' or 'dynamic'."""
    if text == "dynamic":
        return "dynamic"
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"--batch {text} is no number of images", fix="write it as 8 or dynamic")
    return int(text)


def in_batches(run: Run, size: int | None) -> Run:
    """`run`, which takes `size` images at once, for any number of them: the last are padded."""
    if size is None:
        return run

    def run_all(images: Tensor) -> Tensor:
        short = -len(images) % size
        padded = torch.cat([images, images.new_zeros(short, *images.shape[1:])])
        return torch.cat([run(part) for part in padded.split(size)])[: len(images)]

    return run_all
