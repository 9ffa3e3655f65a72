"""The options that several commands share, and what their values mean."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nassearch.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all randomness.")]
Space = Annotated[str | None, typer.Option("--space", help="A space's name or YAML file.")]
RuntimeName = Annotated[str | None, typer.Option("--runtime", help="onnxruntime, fake, ...")]
Precision = Annotated[str | None, typer.Option("--precision", help="fp32, fp16, int8, ...")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Images at once.")]
Formats = Annotated[
    str | None,
    typer.Option("--format", help="weights, onnx, pt2, int8; default: what is promised."),
]
GraphBatch = Annotated[
    str | None, typer.Option("--batch", help="Images a graph takes: 1, 8, dynamic.")
]
Loss = Annotated[
    float, typer.Option("--max-accuracy-loss", min=0, max=1, help="What int8 may cost: 0.01.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace another export.")]
DataSpec = Annotated[str | None, typer.Option("--data", help="digits, cifar10:/path, ...")]
Preprocess = Annotated[
    str | None,
    typer.Option("--preprocessing", help="How model.onnx takes images: imagenet, or {mean: ...}."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any key of the recipe, as key=value.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the runtime.")]


def assignment(text: str) -> tuple[str, Any]:
    """One --set, as key and value; ConfigError where it is not key=value."""
    from nassearch.config import parse_yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(
            "is not key=value", where=f"--set {text}", fix="for instance training.lr=0.05"
        )
    return key, parse_yaml(value, where=f"--set {text}")


def said(preprocessing: str | None) -> Any:
    """--preprocessing as Python has it: a name, or a mapping of keys; None where it is left out."""
    from nassearch.config import parse_yaml

    return None if preprocessing is None else parse_yaml(preprocessing, where="--preprocessing")


@contextmanager
def naming_settings(texts: Sequence[str] | None) -> Iterator[None]:
    """Within the block, an error in a key that a --set gave names that --set, and no file."""
    try:
        yield
    except ConfigError as error:
        given = [text for text in texts or () if _holds(text.partition("=")[0], error.key)]
        if not given:
            raise
        raise type(error)(error.what, where=f"--set {given[-1]}", fix=error.fix) from error


def _holds(key: str, wrong: str) -> bool:
    """Whether the key `wrong` is `key` or stands in it."""
    return wrong == key or wrong.startswith((f"{key}.", f"{key}["))
