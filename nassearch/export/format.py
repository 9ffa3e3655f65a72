"""What a format is: one way to write a network down, and to run it from there."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from nassearch import config
from nassearch.config import StrictModel
from nassearch.data.dataset import Data
from nassearch.errors import CheckpointError, ConfigError
from nassearch.export import FORMATS
from nassearch.export.export_config import ExportConfig
from nassearch.networks import Subnet
from nassearch.networks.wiring import LOGITS, Outputs, named
from nassearch.progress import Progress

CONFIG_ONLY = "config"
DEFAULT = (CONFIG_ONLY, "weights", "onnx")
Batch = Annotated[int, Field(gt=0)] | Literal["dynamic"]
Run = Callable[[Tensor], Any]
"""A network as its format runs it: any number of normalised images, (n, c, r, r), to logits, or to
a tensor by the name of each of several outputs; of photos of one size, uint8 (n, height, width, c),
where its file takes these."""


class FormatOptions(StrictModel):
    """What may be asked of a format: nothing, unless it brings a model of its own."""


class GraphOptions(FormatOptions):
    """Graphs take `batch` images at once, or any number."""

    batch: Batch = 1

    @property
    def fixed_batch(self) -> int | None:
        """None where the number of images is left open."""
        return None if self.batch == "dynamic" else self.batch


class PhotoOptions(GraphOptions):
    """Graphs take photos, uint8 (n, height, width, channels), and preprocess them themselves."""

    preprocess_in_graph: bool = False


class Format(Protocol):
    """A format with the options it was made with; without arguments, with their defaults."""

    title: ClassVar[str]
    """What runs it, as the model card calls it."""
    file_name: ClassVar[str]
    imports: ClassVar[tuple[str, ...]]
    """The modules that running it takes."""
    exact: ClassVar[bool]
    """Whether its logits are those of the network; an int8 network's are near them."""

    @property
    def options(self) -> FormatOptions:
        """What was asked of it; its class says what may be."""
        ...

    def write(
        self, subnet: Subnet, path: Path, *, data: Data, progress: Progress
    ) -> dict[str, object]:
        """Write the file at `path`.

        Args:
            subnet: The network, in evaluation mode.
            path: Where the file is to lie.
            data: The network's images, for a format that calibrates.
            progress: Who watches.

        Returns:
            The facts worth knowing about the file, for the config; `remark` is shown to people.

        Raises:
            ExportError: The format cannot hold the network.
        """
        ...

    def open(self, path: Path) -> Run:
        """The network in the file at `path`, inside an export."""
        ...

    def snippet(self) -> tuple[str, str, str]:
        """Import, load and run `images`, three lines of Python for the model card."""
        ...


_RECORDED = ("batch", "preprocess_in_graph")
_FACTS = ("title", "file_name", "imports", "exact", "write", "open", "snippet")


def make_format(name: str, options: Mapping[str, object] | None = None) -> Format:
    """The format called `name`, with those of the `options` that it reads.

    Raises:
        ConfigError: There is no such format, or an option has no value it takes.
    """
    kind: Callable[..., Format] = config.resolve(FORMATS, name, kind="export format")
    missing = [fact for fact in _FACTS if not hasattr(kind, fact)]
    if missing or not isinstance(kind, type):
        raise ConfigError(
            "is no export format",
            where=name,
            fix=f"give its class {', '.join(missing)}" if missing else "name a class",
        )
    made = kind()
    own = {key: value for key, value in (options or {}).items() if key in _keys(made)}
    return kind(config.parse(type(made.options), own, where=f"format {name}")) if own else made


def format_of(export: ExportConfig, name: str, directory: Path) -> Format:
    """A format of an export that lies in `directory`; CheckpointError where nothing vouches for it.

    What the export of a stranger names is read alone: a format is never called before it is known
    to be one.
    """
    made = recorded_format(export, name)
    if made.file_name not in export.files:
        raise CheckpointError(
            f"has the format {name}, but no hash of {made.file_name}",
            where=directory,
            fix="export the network again",
        )
    return made


def recorded_format(export: ExportConfig, name: str) -> Format:
    """The format called `name` as an export was written in it."""
    facts = export.formats[name]
    return make_format(name, {key: facts[key] for key in _RECORDED if key in facts})


def takes_photos(format: Format) -> bool:
    """Whether its file takes photos, instead of images (n, c, r, r) that are normalised."""
    return isinstance(format.options, PhotoOptions) and format.options.preprocess_in_graph


def photo_options(asked: bool) -> dict[str, object]:
    """The options of formats where their graphs are asked to take photos, or not."""
    return {"preprocess_in_graph": True} if asked else {}


def make_formats(
    names: Sequence[str], options: Mapping[str, object] | None = None
) -> dict[str, Format]:
    """The formats called `names`, without `config`, which is always written.

    Raises:
        ConfigError: As of `make_format`, and for an option that no format reads.
    """
    made = {name: make_format(name, options) for name in names if name != CONFIG_ONLY}
    known = {key for made in map(make_format, FORMATS) for key in _keys(made)}
    known.update(key for format in made.values() for key in _keys(format))
    for key in options or ():
        if key not in known:
            raise ConfigError(
                f"no format reads the option '{key}'{config.nearest(key, list(known))}",
                where="formats",
                fix=f"known: {', '.join(sorted(known))}",
            )
    asked = options is not None and options.get("preprocess_in_graph")
    if asked and not any(map(takes_photos, made.values())):
        raise ConfigError(
            "none of these formats holds a graph that preprocesses",
            where=f"formats {', '.join(names)}",
            fix="add onnx or int8, or leave --preprocess-in-graph out",
        )
    return made


def _keys(made: Format) -> Iterable[str]:
    return type(made.options).model_fields


def parse_batch(text: str) -> int | Literal["dynamic"]:
    """'8' or 'dynamic'."""
    if text == "dynamic":
        return "dynamic"
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(
            f"'{text}' is no number of images", where="batch", fix="write it as 8 or dynamic"
        )
    return int(text)


def in_batches(run: Run, size: int | None) -> Run:
    """`run`, which takes `size` images at once, for any number of them: the last are padded."""
    if size is None:
        return run

    def run_all(images: Tensor) -> Outputs:
        short = -len(images) % size
        padded = torch.cat([images, images.new_zeros(short, *images.shape[1:])])
        parts = [named(run(part)) for part in padded.split(size)]
        joined = {
            name: torch.cat([part[name] for part in parts])[: len(images)] for name in parts[0]
        }
        return joined[LOGITS] if list(joined) == [LOGITS] else joined

    return run_all


def snippet(format: Format, outputs: Collection[str] | None) -> tuple[str, str, str]:
    """A format's three lines, for a network with named outputs where it has some.

    ONNX Runtime gives a list of them in their order, the others a dictionary.
    """
    first, second, third = format.snippet()
    if outputs is None:
        return first, second, third
    return first, second, third.replace("(logits,)", "outputs").replace("logits", "outputs")
